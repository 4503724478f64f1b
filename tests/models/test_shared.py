"""Attention of a packed row: long responses in pieces, and the whole row as one call of a varlen kernel."""

import inspect

import fake_flash
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_forward import assert_equals_one_at_a_time, prompts_of, rows_with
from segments import segments_of
from simulated import SIMULATES, Simulated, apart, simulated_device
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from gmpo_vl.models import layout as layouts
from gmpo_vl.models import padding, shared
from gmpo_vl.models.layout import build_layout
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.packing import Segment
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.shared import group_shared_attention
from gmpo_vl.tasks.diagrams.data import make_examples

CPU = torch.device("cpu")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("heads", "key_heads"), [(4, 2), (6, 1), (2, 2)])
def test_one_token_a_row_attends_as_transformers_has_it(heads, key_heads, masked):
    torch.manual_seed(0)
    query = torch.randn(3, heads, 1, 8, dtype=torch.float64)
    key, value = torch.randn(2, 3, key_heads, 5, 8, dtype=torch.float64)
    mask = torch.arange(5) >= torch.tensor([0, 2, 1])[:, None] if masked else None
    mask = None if mask is None else mask[:, None, None]
    module = torch.nn.Module()
    module.num_key_value_groups = heads // key_heads
    ours, _ = group_shared_attention(module, query, key, value, mask, scaling=0.3)
    theirs, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)


groups_of_lengths = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(0, 9), min_size=1, max_size=4)), min_size=1, max_size=3
)


@settings(max_examples=60)
@given(groups_of_lengths, st.integers(1, 4))
def test_one_varlen_call_gives_what_padded_calls_give(groups, piece):
    segments = segments_of(groups)
    length = segments[-1].start + segments[-1].length
    draw = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(length, heads, 8, generator=draw, dtype=torch.float64) for heads in (4, 2, 2)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "PIECE", piece)
        patch.setattr(layouts, "SMALL", 0)
        layout = build_layout(segments, CPU)
        padded = shared._padded_calls(query, key, value, layout, 0.3)
        varlen = layout.varlen
        ends = varlen.query_ends_S1.tolist(), varlen.key_ends_S1.tolist()
        key, value = key[varlen.key_K], value[varlen.key_K]
        one = fake_flash.attention_by_segments(query, key, value, *ends, 0.3, causal=True)
    torch.testing.assert_close(one, padded, rtol=1e-12, atol=1e-14)


def sdpa_by_segments(states, segments: list[Segment]) -> torch.Tensor:
    """(1, L, heads, width): every segment alone over its prefix and itself."""
    query, key, value = states
    results = []
    for s in segments:
        own, before = (
            range(s.start, s.start + s.length),
            range(s.prefix_start, s.prefix_start + s.prefix_length),
        )
        seen = [*before, *own]
        mask = torch.ones(s.length, len(seen), dtype=torch.bool).tril(len(before))
        q, k, v = query[:, :, list(own)], key[:, :, seen], value[:, :, seen]
        results.append(
            scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3, enable_gqa=True).transpose(1, 2)
        )
    return torch.cat(results, dim=1)


@pytest.mark.skipif(not SIMULATES, reason="needs torch 2.10 and fork")
@settings(max_examples=15)
@given(groups_of_lengths)
@apart
def test_flash_attention_gives_what_sdpa_gives_forward_and_backward(groups):
    segments = segments_of(groups)
    length = segments[-1].start + segments[-1].length
    draw = torch.Generator().manual_seed(0)
    states = [torch.randn(1, heads, length, 8, generator=draw).bfloat16() for heads in (4, 2, 2)]
    weights = torch.randn(1, length, 4, 8, generator=draw)
    exact = [x.double().requires_grad_() for x in states]
    expected = sdpa_by_segments(exact, [s for s in segments if s.length])
    expected.backward(weights.double())
    with simulated_device() as device, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "flash_varlen", lambda: fake_flash.flash_attn_varlen_func)
        here = [Simulated(x).requires_grad_() for x in states]
        layout = build_layout(segments, device)
        out, _ = group_shared_attention(torch.nn.Module(), *here, None, scaling=0.3, layout=layout)
        out.backward(weights.to(device, torch.bfloat16))
    assert "varlen" in vars(layout), "flash-attn was not called"
    assert not layout._calls
    torch.testing.assert_close(out.detach().held.double(), expected.detach(), rtol=0.01, atol=0.01)
    for x, same in zip(here, exact):
        gap = (x.grad.held.double() - same.grad).norm() / same.grad.norm().clamp(min=1e-3)
        assert gap < 0.02


@pytest.mark.skipif(not SIMULATES, reason="needs torch 2.10 and fork")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"q": lambda x: x.float()}, "only support fp16 and bf16"),
        ({"k": lambda x: x.half()}, "query and key"),
        ({"v": lambda x: x.half()}, "query and value"),
        ({name: lambda x: x.repeat(1, 1, 33) for name in "qkv"}, "at most 256"),
        ({"q": lambda x: x[:, :3]}, "must divide"),
        ({"q": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)}, "contiguous last"),
        ({"k": lambda x: x.cpu()}, "on CUDA"),
        ({"cu_seqlens_q": lambda x: x.long()}, "cu_seqlens_q must have dtype int32"),
        ({"cu_seqlens_k": lambda x: x.cpu()}, "cu_seqlens_k must be on CUDA"),
        ({"cu_seqlens_q": lambda x: torch.stack([x, x], dim=1)[:, 0]}, "cu_seqlens_q must be contiguous"),
        ({"cu_seqlens_k": lambda x: x[:-1]}, r"shape \(batch_size \+ 1\)"),
        ({"cu_seqlens_q": lambda x: x - x % 2}, "for 5 tokens"),
        ({"max_seqlen_q": lambda x: 2}, "a sequence of 3 queries"),
        ({"max_seqlen_k": lambda x: 4}, "a sequence of 5 keys"),
    ],
)  # fmt: skip
@apart
def test_flash_attention_refuses_what_the_real_one_refuses(changed, said):
    with simulated_device() as device:
        varlen = build_layout([Segment(0, 3), Segment(3, 2, 0, 3)], device).varlen
        q, k = (torch.randn(5, heads, 8, dtype=torch.bfloat16, device=device) for heads in (4, 2))
        names = "q k v cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k".split()
        values = [q, k[varlen.key_K], k[varlen.key_K], varlen.query_ends_S1, varlen.key_ends_S1, 3, 5]
        arguments = dict(zip(names, values))
        fake_flash.flash_attn_varlen_func(**arguments, causal=True)
        with pytest.raises(RuntimeError, match=said):
            fake_flash.flash_attn_varlen_func(
                **{name: changed.get(name, lambda x: x)(x) for name, x in arguments.items()}
            )


def test_the_stand_in_has_the_real_ones_signature():
    real = pytest.importorskip("flash_attn").flash_attn_varlen_func
    assert inspect.signature(fake_flash.flash_attn_varlen_func) == inspect.signature(real)


@pytest.mark.parametrize("piece", [1, 3])
def test_responses_longer_than_a_piece_are_exact(piece, tiny_folder, all_float64, monkeypatch):
    monkeypatch.setattr(layouts, "PIECE", piece)
    monkeypatch.setattr(layouts, "SMALL", 0)
    processor, model = load_processor(tiny_folder), load_model(tiny_folder, torch.float64)
    prompts = prompts_of("mixed", processor, make_examples("train", 2, seed=0))
    assert_equals_one_at_a_time(model, processor, rows_with(prompts, [[11, 1, 4], [3, 9], [7]]), True)


def test_pieces_compute_less_than_a_whole_masked_call(monkeypatch):
    segments = segments_of([(40, [64, 64])])

    def pairs() -> int:
        blocks = build_layout(segments, CPU).calls(None).blocks
        return sum(block.query_mQ.numel() * block.key_mK.shape[1] for block in blocks)

    whole = pairs()
    monkeypatch.setattr(layouts, "PIECE", 16)
    monkeypatch.setattr(layouts, "SMALL", 0)
    monkeypatch.setattr(padding, "PADDING", 1.0)
    # In four pieces, six of a response's sixteen blocks of 16 x 16 are not computed.
    assert whole - pairs() == 2 * 6 * 16 * 16


def test_attention_computes_in_what_autocast_says():
    states = torch.randn(2, 2)
    assert shared.computing_dtype(states) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert shared.computing_dtype(states) == torch.bfloat16


def test_flash_attention_is_for_half_precision_on_cuda_only(monkeypatch):
    monkeypatch.setattr(shared, "flash_varlen", lambda: pytest.fail("not on a CPU"))
    layout = build_layout(segments_of([(3, [2])]), CPU)
    states = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16)
    group_shared_attention(torch.nn.Module(), states, states, states, None, scaling=1.0, layout=layout)
