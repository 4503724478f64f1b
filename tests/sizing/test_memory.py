"""The memory estimate is what autograd really keeps: counted, tensor by tensor, on small models."""

from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch
from tiny_families import save_tiny_family, save_tiny_text
from transformers import AutoConfig

from gmpo_vl.batching.planning import Shape
from gmpo_vl.models.compat import enable_gradient_checkpointing, own_attention
from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.head import head_log_probs
from gmpo_vl.models.loading import banned_ids, load_model
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.models.tiny import packaged_tiny, save_tiny
from gmpo_vl.rollout.hf import GenerateOptions, generate
from gmpo_vl.sizing.memory import (
    HEAD_COPIES,
    Estimate,
    Setting,
    generate_parts,
    gib,
    held_parts,
    log_probs_parts,
    parts_table,
    update_parts,
    widths,
)
from gmpo_vl.sizing.parameters import model_size
from gmpo_vl.types import Example, Sampling


def estimate(of, setting, sampled, scored, updated) -> Estimate:
    return Estimate(
        held_parts(setting),
        generate_parts(of, setting, sampled),
        log_probs_parts(of, setting, scored),
        update_parts(of, setting, updated),
    )


def saved_bytes(folder, image, length: int, n: int, checkpointing=False, frozen=False) -> tuple[int, Shape]:
    """Bytes that the graph of one group's log-probs holds, parameters left out; and the group's shape."""
    model, processor = load_model(folder).train(), load_processor(folder)
    if checkpointing:
        enable_gradient_checkpointing(model)
    if frozen:
        model.model.visual.requires_grad_(False)
    example = Example(
        "a", "<image>" * (image is not None) + "Find x. " * 8, "1", () if image is None else (image,)
    )
    prompt = encode_prompt(example, processor)
    answers = [torch.randint(0, 200, (length,)) for _ in range(n)]
    packed = pack([(prompt, ids_T) for ids_T in answers], processor.family, model.device)
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        response_log_probs(model, packed, 1.0, banned_ids(model.config))
    grids = tuple((t, h, w) for t, h, w in prompt.image_grid_thw.tolist())
    return sum(t.untyped_storage().nbytes() for t in held.values()), Shape(
        len(prompt.ids_P), (length,) * n, grids
    )


def estimated_graph(folder, shape: Shape, **settings) -> float:
    """The estimate of the same: activations and pictures, and of the logits the one copy that outlives the
    forward."""
    parts = estimate(model_size(folder).widths, Setting(1, 1, **settings), [shape], [shape], [shape])
    size = {part.name: part.bytes for part in parts.update}
    return size["activations"] + size["pictures"] + size["logits"] / HEAD_COPIES


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_moe", "qwen3_5", "qwen3_next", "qwen3_5_moe"])
def test_norms_of_heads_experts_and_running_states_are_in_it(family, picture, tmp_path):
    """Gated delta-nets in transformers' own torch code, which takes chunks of 64: short rows are padded."""
    if own_attention(family):
        pytest.skip("the layers of this version share no prompt: rollouts go one at a time")
    folder = save_tiny_family(tmp_path, family)
    image = picture if hasattr(AutoConfig.from_pretrained(folder), "vision_config") else None
    for length, n in ((60, 8), (10, 4), (200, 2), (65, 4)):
        found, shape = saved_bytes(folder, image, length, n)
        assert estimated_graph(folder, shape) == pytest.approx(found, rel=0.13)


@pytest.mark.parametrize(("length", "n"), [(60, 8), (10, 4), (200, 2)])
@pytest.mark.parametrize("size", ["demo", "test"])
def test_what_the_graph_holds_is_estimated_within_a_tenth(size, length, n, picture, tmp_path):
    folder = save_tiny(tmp_path, size=size)
    found, shape = saved_bytes(folder, picture, length, n)
    assert estimated_graph(folder, shape) == pytest.approx(found, rel=0.1)


def test_text_only_and_frozen_towers_keep_less(picture, tmp_path):
    text = save_tiny_text(tmp_path / "text")
    found, shape = saved_bytes(text, None, 60, 8)
    assert estimated_graph(text, shape) == pytest.approx(found, rel=0.1)
    folder = packaged_tiny()
    whole, _ = saved_bytes(folder, picture, 20, 2)
    found, shape = saved_bytes(folder, picture, 20, 2, frozen=True)
    assert found < whole
    assert estimated_graph(folder, shape, vision_trained=False) == pytest.approx(found, rel=0.2)


def test_checkpointing_keeps_the_inputs_of_layers_and_one_layer_whole(picture, tmp_path):
    folder = packaged_tiny()
    whole, shape = saved_bytes(folder, picture, 60, 8)
    found, _ = saved_bytes(folder, picture, 60, 8, checkpointing=True)
    # The hooks see what outlives the forward; the one layer that the backward recomputes comes on top of it.
    assert found < estimated_graph(folder, shape, checkpointing=True) < whole


@pytest.mark.parametrize("entropy", [False, True])
def test_the_head_with_its_backward_is_estimated_at_its_peak(entropy):
    rows, vocabulary = 64, 20_000
    of = replace(widths(AutoConfig.from_pretrained(packaged_tiny())), vocabulary=vocabulary)
    shapes = [Shape(1, (rows,))]
    update = estimate(of, Setting(1, 1, entropy=entropy), shapes, shapes, shapes).update
    estimated = next(part.bytes for part in update if part.name == "logits")
    head = torch.nn.Linear(2, vocabulary, bias=False)
    hidden, targets = torch.randn(rows, 2, requires_grad=True), torch.arange(10, 10 + rows)

    def step() -> None:
        log_probs, entropies = head_log_probs(head, hidden, targets, 0.7, (3, 4), entropy)
        (log_probs.sum() if entropies is None else log_probs.sum() + entropies.sum()).backward()

    assert peak_bytes(step) == pytest.approx(estimated, rel=0.05)


@pytest.mark.parametrize(
    ("count", "words", "length", "n", "pictured", "largest"),
    [
        (6, 200, 3, 1, False, "one layer"),
        (6, 400, 3, 1, False, "mask"),
        (6, 8, 3, 1, True, "one layer"),
        (12, 8, 60, 4, True, "KV cache"),
    ],
)
def test_sampling_is_estimated_at_its_peak_prompts_or_answers(
    count, words, length, n, pictured, largest, picture, tmp_path
):
    folder = save_tiny(tmp_path, size="demo")
    model, processor = load_model(folder), load_processor(folder)
    model.generation_config.eos_token_id = [-1]
    images = (picture,) if pictured else ()
    examples = [  # of two lengths, so that the shorter are padded
        Example(str(k), "<image>" * pictured + "Find x. " * (words - k % 2), "1", images)
        for k in range(count)
    ]
    prompts = [encode_prompt(example, processor) for example in examples]
    grids = tuple((t, h, w) for t, h, w in prompts[0].image_grid_thw.tolist())
    shape = Shape(max(len(p.ids_P) for p in prompts), (length,) * n, grids)
    parts = estimate(
        widths(AutoConfig.from_pretrained(folder)), Setting(1, 1), [shape] * count, [], []
    ).generate
    assert max(parts, key=lambda part: part.bytes).name == largest
    # What is set up once is no part of it.
    generate(model, processor, prompts[:1], Sampling(n=1, max_tokens=2))
    found = peak_bytes(
        lambda: generate(model, processor, prompts, Sampling(n, length), options=GenerateOptions(10**9))
    )
    assert found <= sum(part.bytes for part in parts) <= 1.6 * found


@pytest.mark.parametrize(("words", "length", "n", "count"), [(200, 3, 1, 6), (8, 40, 4, 6)])
def test_running_states_are_in_a_forward_and_in_the_cache(words, length, n, count, tmp_path):
    folder = save_tiny_family(tmp_path, "qwen3_5")
    model, processor = load_model(folder), load_processor(folder)
    model.generation_config.eos_token_id = [-1]
    prompts = [encode_prompt(Example(str(k), "Find x. " * words, "1"), processor) for k in range(count)]
    shape, of = Shape(len(prompts[0].ids_P), (length,) * n), model_size(folder).widths
    assert of is not None
    packed = pack([(prompts[0], torch.arange(length))] * n, processor.family, model.device)

    def score() -> None:
        with torch.no_grad():
            response_log_probs(model, packed, 1.0, banned_ids(model.config), with_entropy=True)

    def sample() -> None:
        generate(model, processor, prompts, Sampling(n, length), options=GenerateOptions(10**9))

    for step, parts in (
        (score, log_probs_parts(of, Setting(1, 1), [shape])),
        (sample, generate_parts(of, Setting(1, 1), [shape] * count)),
    ):
        step()  # what is set up once is no part of it
        assert peak_bytes(step) <= sum(part.bytes for part in parts) <= 1.7 * peak_bytes(step)


def test_autocast_keeps_its_copy_of_the_weights_while_sampling_too():
    weight, x = torch.nn.Parameter(torch.randn(1000, 1000)), torch.randn(1, 1000)

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        first, second = (peak_bytes(lambda: torch.nn.functional.linear(x, weight)) for _ in range(2))
    assert first > 2 * weight.numel() > 4 * second  # the second has its result, and what the product needs
    setting = Setting(weight.numel(), weight.numel(), compute_bytes=2)
    found = estimate(widths(AutoConfig.from_pretrained(packaged_tiny())), setting, [], [], [])
    assert {p.name: p.bytes for p in found.generate}["cast weights"] == 2 * weight.numel()


def peak_bytes(step) -> int:
    """The most that the allocator had given out at once during `step`."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    profiler: Any = seen.profiler
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


@pytest.fixture
def picture():
    from PIL import Image

    return Image.linear_gradient("L").resize((168, 112)).convert("RGB")


def test_the_estimate_grows_with_what_it_should():
    of = widths(AutoConfig.from_pretrained(packaged_tiny()))
    base = Setting(parameters=1000, trained=1000)
    shape = Shape(100, (50,) * 4, ((1, 8, 8),))

    def peak(setting=base, shape=shape, of=of) -> float:
        return estimate(of, setting, [shape], [shape], [shape]).peak

    assert peak(replace(base, trained=10)) < peak() < peak(replace(base, reference_bytes=4))
    assert peak(replace(base, checkpointing=True)) < peak() < peak(shape=Shape(100, (100,) * 4, ((1, 8, 8),)))
    assert peak(shape=Shape(100, (50,) * 4)) < peak()
    assert peak(of=replace(of, vocabulary=100)) < peak()
    found = estimate(of, base, [shape], [shape], [shape])
    assert found.peak == max(found.of_phase(phase) for phase in ("generate", "log_probs", "update"))
    lines = parts_table(found)
    assert [line.split("  ")[1] for line in lines if "weights" in line]
    assert len(lines) == len((*found.held, *found.generate, *found.log_probs, *found.update)) + 1


def test_only_blocks_in_the_heap_leave_gaps():
    of = widths(AutoConfig.from_pretrained(packaged_tiny()))
    shape = Shape(100, (50,) * 4, ((1, 8, 8),))

    def gaps(setting: Setting, groups: list[Shape]) -> dict[str, float]:
        found = estimate(of, setting, groups, groups, groups)
        return {
            p: sum(x.bytes for x in getattr(found, p) if x.name == "gaps") for p in ("log_probs", "update")
        }

    heap = Setting(parameters=1000, trained=1000, gaps=True)
    few, many = gaps(heap, [shape]), gaps(heap, [shape] * 2000)
    assert 0 < few["update"] < estimate(of, heap, [shape], [shape], [shape]).of_phase("update")
    assert few["log_probs"] > 0
    assert gaps(replace(heap, gaps=False), [shape]) == {"log_probs": 0, "update": 0}
    # 2,000 groups make activations of far more than 32 MiB each: only the head's rows, cut into pieces, are
    # in the heap.
    assert many["update"] < 2 * few["update"]


def test_a_published_models_weights_are_known():
    """16 bytes a parameter in float32 with AdamW: what configs/ and the README say."""
    of = widths(AutoConfig.from_pretrained(packaged_tiny()))
    found = estimate(of, Setting(3_754_622_976, 3_754_622_976), [], [], [])
    assert sum(part.bytes for part in found.held) == 16 * 3_754_622_976
    assert gib(found.peak) == "55.9 GiB"
