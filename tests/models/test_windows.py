"""Layers that see a window of tokens, prompts with masks of their own, and attention that is not honoured."""

from types import SimpleNamespace

import fake_flash
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import SIMULATES, Simulated, apart, simulated_device
from test_shared import CPU, groups_of_lengths, segments_of
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.masking_utils import sliding_window_causal_mask_function

from gmpo_vl.models import layout as layouts
from gmpo_vl.models import shared
from gmpo_vl.models.head import own_logits
from gmpo_vl.models.layout import build_layout
from gmpo_vl.models.packing import Segment
from gmpo_vl.models.shared import group_shared_attention


def states_of(segments: list[Segment]):
    """Queries of four heads, keys and values of two: (1, heads, L, 8)."""
    length = segments[-1].start + segments[-1].length
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(1, heads, length, 8, generator=draw, dtype=torch.float64) for heads in (4, 2, 2)]


def by_transformers_rule(states, segments, window, masks=None):
    """(1, L, heads, width): every segment alone after its prefix, seen as transformers' own masks have it."""
    sees, results = sliding_window_causal_mask_function(window), []
    for s in segments:
        own = range(s.start, s.start + s.length)
        text = [*range(s.prefix_start, s.prefix_start + s.prefix_length), *own]
        place = torch.arange(len(text))
        mask = torch.stack([sees(0, 0, i, place) for i in place[s.prefix_length :]])
        mask = (masks or {}).get(s.start, mask)
        q, k, v = states[0][:, :, list(own)], states[1][:, :, text], states[2][:, :, text]
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3, enable_gqa=True)
        results.append(out.transpose(1, 2))
    return torch.cat(results, dim=1)


def attend(states, layout, window, module=None):
    module = torch.nn.Module() if module is None else module
    return group_shared_attention(module, *states, None, scaling=0.3, sliding_window=window, layout=layout)[0]


@settings(max_examples=80)
@given(groups_of_lengths, st.integers(1, 20), st.integers(1, 4), st.sampled_from([0, 1_000_000]))
def test_padded_calls_see_what_transformers_masks_let_through(groups, window, piece, small):
    segments = segments_of(groups)
    states = states_of(segments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "PIECE", piece)
        patch.setattr(layouts, "SMALL", small)
        out = attend(states, build_layout(segments, CPU), window)
    expected = by_transformers_rule(states, [s for s in segments if s.length], window)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-14)


@settings(max_examples=40)
@given(groups_of_lengths, st.integers(1, 20))
def test_flash_attention_is_given_the_same_window(groups, window):
    segments = segments_of(groups)
    query, key, value = (x[0].transpose(0, 1) for x in states_of(segments))
    given_to = {}

    def flash(q, k, v, query_ends, key_ends, *_, softmax_scale, causal, window_size):
        given_to["window"] = window_size
        ends = query_ends.tolist(), key_ends.tolist()
        return fake_flash.attention_by_segments(q, k, v, *ends, softmax_scale, causal, window_size[0])

    layout = build_layout(segments, CPU)
    one = shared._one_call(flash, query, key, value, layout.varlen, 0.3, window)
    assert given_to["window"] == (window - 1, 0)
    torch.testing.assert_close(one, shared._padded_calls(query, key, value, layout, 0.3, window))


@pytest.mark.skipif(not SIMULATES, reason="needs torch 2.10 and fork")
@pytest.mark.parametrize(("masked", "flash"), [(False, True), (True, False)])
@apart
def test_flash_attention_is_not_asked_for_a_mask_of_a_prompts_own(masked, flash):
    segments = segments_of([(5, [4, 2])])
    states = [x.bfloat16() for x in states_of(segments)]
    with simulated_device() as device, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "flash_varlen", lambda: fake_flash.flash_attn_varlen_func)
        mask = Simulated(torch.ones(5, 5, dtype=torch.bool))
        masks = {0: {"sliding_attention": mask}} if masked else {}
        layout = build_layout(segments, device, masks)
        attend([Simulated(x) for x in states], layout, 3)
    assert ("varlen" in vars(layout)) == flash


def test_a_window_beyond_every_row_costs_nothing():
    layout = build_layout(segments_of([(5, [4, 2]), (3, [1])]), CPU)
    assert layout.calls(9) is layout.calls(None)
    assert layout.calls(8) is not layout.calls(None)


def test_keys_before_the_window_are_not_computed(monkeypatch):
    monkeypatch.setattr(layouts, "PIECE", 16)
    monkeypatch.setattr(layouts, "SMALL", 0)
    blocks = build_layout(segments_of([(200, [64])]), CPU).calls(8).blocks
    assert sum(block.query_mQ.numel() for block in blocks) < 1.25 * 264
    assert max(block.key_mK.shape[1] for block in blocks) <= 16 + 7


@pytest.mark.parametrize("window", [None, 4])
def test_a_prompts_own_mask_is_honoured_in_layers_of_its_kind(window):
    segments = segments_of([(6, [3]), (7, [2, 5])])
    states = states_of(segments)
    rule = torch.ones(7, 7, dtype=torch.bool).tril()
    rule = rule if window is None else rule & ~torch.ones(7, 7, dtype=torch.bool).tril(-window)
    mask = rule.clone()
    mask[2:5, 2:5] = True  # a picture
    kind = "full_attention" if window is None else "sliding_attention"
    other = {"full_attention": "sliding_attention"}.get(kind, "full_attention")
    expected = by_transformers_rule(states, segments, window or 100, {9: mask})
    out = attend(states, build_layout(segments, CPU, {9: {kind: mask}}), window)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-14)
    elsewhere = attend(states, build_layout(segments, CPU, {9: {other: mask}}), window)
    without = attend(states, build_layout(segments, CPU), window)
    torch.testing.assert_close(elsewhere, without, rtol=1e-12, atol=1e-14)
    assert not torch.equal(without, out)
    assert not build_layout(segments, CPU, {9: {kind: rule}}).own_masks(window), "it is the rule itself"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"softcap": 50.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"head_mask": torch.ones(4)}, "head_mask"),
        ({"position_bias": torch.zeros(1, 4, 9, 9)}, "position_bias"),
        ({"indices": torch.zeros(1, 9, 2)}, "indices"),
        ({"dropout": 0.1}, "dropout"),
        ({"is_causal": False}, "not causal"),
    ],
)
def test_options_that_are_not_honoured_are_refused_by_name(options, said):
    segments = segments_of([(5, [4])])
    with pytest.raises(RuntimeError, match=said):
        group_shared_attention(
            torch.nn.Module(), *states_of(segments), None, layout=build_layout(segments, CPU), **options
        )


def test_options_that_are_not_set_are_not_refused():
    segments = segments_of([(5, [4])])
    options = {"softcap": None, "s_aux": None, "dropout": 0.0, "output_attentions": False}
    layout = build_layout(segments, CPU)
    out = group_shared_attention(
        torch.nn.Module(), *states_of(segments), None, scaling=0.3, layout=layout, **options
    )[0]
    plain = attend(states_of(segments), build_layout(segments, CPU), None)
    assert torch.equal(out, plain)


@pytest.mark.parametrize("kind", ["sliding_attention", "chunked_attention"])
def test_a_layer_that_does_not_say_how_far_it_sees_is_refused(kind):
    segments = segments_of([(5, [4])])
    module = torch.nn.Module()
    module.config, module.layer_idx = SimpleNamespace(layer_types=["full_attention", kind]), 0
    attend(states_of(segments), build_layout(segments, CPU), None, module)
    module.layer_idx = 1
    with pytest.raises(RuntimeError, match=kind):
        attend(states_of(segments), build_layout(segments, CPU), None, module)


@pytest.mark.parametrize(
    ("kind", "settings_of"),
    [
        ("qwen2", {}),
        ("granite", {"logits_scaling": 8.0}),
        ("cohere", {"logit_scale": 0.3}),
        ("gemma2", {"final_logit_softcapping": 2.0, "head_dim": 8}),
    ],
)
def test_logits_are_scaled_and_capped_as_the_models_own_forward_does(kind, settings_of):
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 40}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **small, **heads, **settings_of)
    ).eval()
    ids = torch.randint(1, 40, (1, 6))
    out = model(ids)
    final = model.base_model(ids).last_hidden_state[0]
    torch.testing.assert_close(own_logits(model, final), out.logits[0])
    assert torch.allclose(own_logits(model, final), model.lm_head(final)) == (kind == "qwen2")
    assert "forward" not in vars(model.base_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.lm_head, "forward", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            own_logits(model, final)
    assert "forward" not in vars(model.base_model), "what stood in its place is gone after an error, too"
