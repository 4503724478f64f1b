"""Attention over packed segments, on what the GPU has, against a plain loop over the segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import median

import torch
from measure import seconds_of

from acceptance.runner import Outcome, Place, judged
from gmpo_vl.models import shared
from gmpo_vl.models.layout import Layout, build_layout
from gmpo_vl.models.packing import Segment
from gmpo_vl.models.shared import group_shared_attention

# |found - true| / |true| that rounding explains. bf16 keeps 8 bits: a right kernel is at 0.002 to 0.005; a
# wrong mask at 0.3.
TOLERANCE = {torch.bfloat16: 0.02, torch.float32: 1e-5}
# (query heads, key heads, width): of Qwen2.5-VL-7B's decoder, and the width of its ViT.
HEADS = ((28, 4, 128), (16, 16, 80))
GROUPS = ((300, (200, 130, 41)), (170, (90, 64)))  # (prompt, responses) in tokens; a response of 1 is not fed
SMALL_GROUPS = ((30, (20, 13, 4)), (17, (9, 6)))
LONG = ((2000, (1000,) * 8),)

Tensors = tuple[torch.Tensor, ...]


def segments_of(groups: tuple[tuple[int, tuple[int, ...]], ...]) -> list[Segment]:
    """Every prompt with its responses after it."""
    found, offset = [], 0
    for prompt, responses in groups:
        start = offset
        found.append(Segment(start, prompt))
        offset += prompt
        for length in responses:
            found.append(Segment(offset, length, start, prompt))
            offset += length
    return found


def random_inputs(length: int, heads: tuple[int, int, int], place: Place) -> Tensors:
    """Queries, keys, values (1, heads, L, width) and a gradient (1, L, heads, width)."""
    torch.manual_seed(0)
    queries, keys, width = heads
    shapes = ((queries, length), (keys, length), (keys, length), (length, queries))
    return tuple(torch.randn(1, *shape, width, device=place.device, dtype=place.dtype) for shape in shapes)


def plain_loop(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: list[Segment]
) -> torch.Tensor:
    """(1, L, heads, width) as attention is defined, one segment after the other."""
    repeats = query.shape[1] // key.shape[1]
    results = []
    for s in segments:
        own = torch.arange(s.start, s.start + s.length, device=query.device)
        before = torch.arange(s.prefix_start, s.prefix_start + s.prefix_length, device=query.device)
        seen = torch.cat([before, own])
        keys, values = (x[0, :, seen].repeat_interleave(repeats, dim=0) for x in (key, value))
        scores = query[0, :, own] @ keys.transpose(1, 2) / query.shape[-1] ** 0.5
        sees = torch.ones(scores.shape[1:], dtype=torch.bool, device=query.device).tril(len(before))
        weights = scores.masked_fill(~sees, -torch.inf).softmax(-1)
        results.append((weights @ values).transpose(0, 1))
    return torch.cat(results)[None]


def with_gradients(attend: Callable[..., torch.Tensor], inputs: Tensors) -> Tensors:
    """The result, and the gradients of queries, keys and values."""
    *leaves, gradient = inputs
    leaves = [x.detach().requires_grad_() for x in leaves]
    out = attend(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, gradient)


def packed(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout) -> torch.Tensor:
    return group_shared_attention(torch.nn.Module(), query, key, value, None, layout=layout)[0]


@contextmanager
def without_flash() -> Iterator[None]:
    """Inside, attention takes the way of who has no flash-attn: SDPA."""
    flash = shared.flash_varlen
    shared.flash_varlen = lambda: None
    try:
        yield
    finally:
        shared.flash_varlen = flash


def compare(place: Place) -> Outcome:
    """The packed call, as it goes here, against the loop in float64; values and gradients, all widths."""
    largest = {"values": 0.0, "gradients": 0.0}
    segments = segments_of(GROUPS if place.cuda else SMALL_GROUPS)
    for heads in HEADS:
        inputs = random_inputs(sum(s.length for s in segments), heads, place)
        found = with_gradients(partial(packed, layout=build_layout(segments, place.device)), inputs)
        exact = tuple(x.double() for x in inputs)
        true = with_gradients(partial(plain_loop, segments=segments), exact)
        gaps = [float((f.double() - t).norm() / t.norm()) for f, t in zip(found, true)]
        largest["values"] = max(largest["values"], gaps[0])
        largest["gradients"] = max(largest["gradients"], *gaps[1:])
    allowed = TOLERANCE[place.dtype]
    said = ", ".join(f"{name} off by {gap:.1e}" for name, gap in largest.items())
    rules = {f"{name} off by {allowed:g} at most": gap <= allowed for name, gap in largest.items()}
    return judged(f"{said} of their size (at most {allowed:g}), widths 128 and 80", rules, **largest)


def attention_by_sdpa(place: Place) -> Outcome:
    with without_flash():
        return compare(place)


def attention_by_flash(place: Place) -> Outcome:
    """flash-attn against the loop, and its time against SDPA's on a row of 10,000 tokens."""
    outcome = compare(place)
    segments = segments_of(LONG)
    inputs = random_inputs(sum(s.length for s in segments), HEADS[0], place)
    run = partial(with_gradients, partial(packed, layout=build_layout(segments, place.device)), inputs)
    flash = _milliseconds(run, place)
    with without_flash():
        sdpa = _milliseconds(run, place)
    times = f"10,000 tokens forward and backward in {flash:.1f} ms, SDPA {sdpa:.1f} ms"
    figures = {**outcome.figures, "flash_ms": flash, "sdpa_ms": sdpa}
    return replace(outcome, said=f"{outcome.said}\n{times}", figures=figures)


def _milliseconds(run: Callable[[], object], place: Place) -> float:
    run()  # warms up
    return 1e3 * median(seconds_of(run, place.device) for _ in range(5))


def machine(place: Place) -> Outcome:
    """What the GPU is, whether it has bf16, and how fast it multiplies (told, not judged)."""
    if not place.cuda:
        return Outcome("PASS", "no GPU: the small version, on the CPU", {"hardware": "CPU"})
    of, (free, total) = torch.cuda.get_device_properties(0), torch.cuda.mem_get_info()
    side = 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rate = 2 * side**3 / (_milliseconds(lambda: a @ b, place) * 1e-3) / 1e12
    said = (
        f"{of.name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, bf16 products at {rate:.0f} TFLOP/s"
    )
    figures = {"free_gib": free / 2**30, "total_gib": total / 2**30, "tflops": rate}
    rules = {
        "the GPU computes in bf16 (Ampere or later)": torch.cuda.is_bf16_supported(including_emulation=False)
    }
    return judged(said, rules, hardware=of.name, **figures)
