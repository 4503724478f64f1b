"""Layers with a recurrent state in a packed row: a response continues from its own prompt's states, and its
gradient goes back into them."""

import sys
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from plain_forward import CPU, assert_equals_one_at_a_time, prompts_of, rows_with
from segments import segments_of
from tiny_families import save_tiny_family

from gmpo_vl.models import compat, padding, reading_order, states
from gmpo_vl.models.compat import enable_gradient_checkpointing
from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.geometry import language_model, state_bytes
from gmpo_vl.models.loading import banned_ids, load_model
from gmpo_vl.models.packing import ForwardOptions, pack
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Example

pytestmark = pytest.mark.skipif(not compat.TRANSFORMERS_5, reason="only transformers 5 can hand states on")
FAMILIES = ("qwen3_5", "qwen3_5_moe", "qwen3_next")
TOKENS = st.integers(1, 400)
LENGTHS = [[1, 2, 65, 130], [2, 64], [3], [1], [5, 2]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {family: save_tiny_family(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture
def loaded(folders, all_float64):
    """A function from a family to its processor, its model in float64 and rows of some prompts: with 1, 0 and
    2 pictures where it sees any, with more than two of the kernel's chunks of 64 tokens, with one token."""

    def load(family):
        processor, model = load_processor(folders[family]), load_model(folders[family], torch.float64)
        model.set_experts_implementation("eager")  # grouped matrix products know no float64
        kind = "mixed" if processor.image else "text"
        prompts = prompts_of(kind, processor, make_examples("train", 2, seed=0))
        long = encode_prompt(Example("long", "Read the numbers. " * 40, "1"), processor)
        one = replace(long, ids_P=long.ids_P[:1], position_ids_3P=long.position_ids_3P[:, :1])
        assert len(long.ids_P) > 128
        return processor, model.train(), rows_with([*prompts, long, one], LENGTHS)

    return load


@pytest.mark.parametrize(
    ("way", "checkpointing"), [("shared", False), ("shared", True), ("plain", False)], ids=str
)
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_and_gradients_equal_one_rollout_at_a_time(family, way, checkpointing, loaded):
    processor, model, rows = loaded(family)
    if checkpointing:
        enable_gradient_checkpointing(model)
    assert_equals_one_at_a_time(model, processor, rows, way)


@pytest.mark.parametrize(("most", "small"), [(1.0, 0), (1.0, 10**9)], ids=["alone", "together"])
def test_rows_alone_or_padded_together_give_the_same(most, small, loaded, monkeypatch):
    monkeypatch.setattr(padding, "PADDING", most)
    monkeypatch.setattr(reading_order, "SMALL", small)
    processor, model, rows = loaded("qwen3_next")
    assert_equals_one_at_a_time(model, processor, rows, "shared")


def test_shared_equals_the_public_way(loaded):
    processor, model, rows = loaded("qwen3_5")
    packed, how = pack(rows, processor.family, CPU), (1.0, banned_ids(model.config))
    with torch.no_grad():
        shared_BT, _ = response_log_probs(model, packed, *how)
        public_BT, _ = response_log_probs(model, packed, *how, options=ForwardOptions("public"))
    torch.testing.assert_close(shared_BT, public_BT, rtol=0, atol=1e-12)


def test_adapters_inside_the_layers_learn_through_the_states(loaded):
    processor, model, rows = loaded("qwen3_5")
    names = ["in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj", "q_proj"]
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=names, init_lora_weights=False)).double()
    gradients = assert_equals_one_at_a_time(adapted, processor, rows, "shared")
    inside = [name for name in gradients if "linear_attn" in name]
    assert len(inside) == 3 * 5 * 2
    assert all(gradients[name].any() for name in inside)


def test_no_kernel_for_decoding_is_called(loaded, monkeypatch):
    """They change the states in place, and flash-linear-attention's has no backward."""
    processor, model, rows = loaded("qwen3_5")
    module = sys.modules[type(model).__module__]
    for name in ("torch_recurrent_gated_delta_rule", "causal_conv1d_update"):
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kwargs: pytest.fail("a kernel for decoding"))
    single = [(prompt, ids_T[:2]) for prompt, ids_T in rows[-2:]]
    response_log_probs(model, pack(single, processor.family, CPU), 1.0, ())


def test_the_calls_are_planned_once_for_all_layers(loaded, monkeypatch):
    processor, model, rows = loaded("qwen3_5")
    planned = []
    plan = reading_order._similar
    monkeypatch.setattr(
        reading_order, "_similar", lambda segments: planned.append(segments) or plan(segments)
    )
    enable_gradient_checkpointing(model)
    log_probs_BT, _ = response_log_probs(model, pack(rows, processor.family, CPU), 1.0, ())
    log_probs_BT.sum().backward()
    assert [len(segments) for segments in planned] == [5, 8]  # prompts, and responses that are fed


class Forgets(states.Carry):
    """Starts every response anew."""

    def __init__(self, conv=None, recurrent=None):
        super().__init__(conv, None if recurrent is None else torch.zeros_like(recurrent))


class ForgetsInputs(states.Carry):
    """Starts the convolution anew."""

    def __init__(self, conv=None, recurrent=None):
        super().__init__(None if conv is None else torch.zeros_like(conv), recurrent)


class Detaches(states.Carry):
    """Hands on values without their gradient."""

    def update_recurrent_state(self, new, layer_idx):
        return super().update_recurrent_state(new.detach(), layer_idx)


class Stale(states.Carry):
    """Hands on the states of a layer's first prompts for ever."""

    first: ClassVar[dict] = {}

    def update_recurrent_state(self, new, layer_idx):
        kept = self.first.setdefault((layer_idx, new.shape), new.detach())
        return super().update_recurrent_state(kept + 0 * new, layer_idx)


@pytest.mark.parametrize("fault", [Forgets, ForgetsInputs, Detaches, Stale, "another prompt's"])
def test_a_planted_fault_is_seen(fault, loaded, monkeypatch):
    processor, model, rows = loaded("qwen3_next")
    if fault == "another prompt's":
        plan = reading_order._response_rows
        monkeypatch.setattr(
            reading_order,
            "_response_rows",
            lambda batch, prompts: plan(batch, [(p + 1) % 4 for p in prompts]),
        )
    else:
        monkeypatch.setattr(states, "Carry", fault)
    if fault is Stale:  # a step that came before, with other weights
        response_log_probs(model, pack(rows, processor.family, CPU), 1.0, ())
        with torch.no_grad():
            language_model(model).layers[0].linear_attn.in_proj_qkvz.weight.mul_(1.5)
    with pytest.raises(AssertionError, match=r"Tensor-likes are not close|of \d"):
        assert_equals_one_at_a_time(model, processor, rows, "shared")


def test_autocast_to_bfloat16_rounds_as_plain_does(folders):
    processor, model = load_processor(folders["qwen3_5"]), load_model(folders["qwen3_5"])
    prompts = prompts_of("mixed", processor, make_examples("train", 2, seed=0))
    packed = pack(rows_with(prompts, [[70, 3], [130, 2], [5]]), processor.family, CPU)

    def log_probs(way):
        out_BT, _ = response_log_probs(model, packed, 1.0, (), options=ForwardOptions(way))
        return out_BT.detach()

    exact = log_probs("shared")
    with torch.autocast("cpu", torch.bfloat16):
        shared, plain = log_probs("shared"), log_probs("plain")
    rounding = (plain - exact).abs()
    assert 1e-4 < rounding.max() < 0.5
    assert (shared - exact).abs().max() < 2 * rounding.max()
    assert (shared - exact).abs().mean() < 1.5 * rounding.mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_of_the_states_are_those_of_transformers_own_cache(family, dtype, folders):
    model = load_model(folders[family], dtype)
    with torch.no_grad():
        cache = model(torch.tensor([[20, 21, 22, 23, 24, 25]] * 3), use_cache=True).past_key_values
    kept = [
        state
        for layer in cache.layers
        for name in ("conv_states", "recurrent_states")
        for state in getattr(layer, name, {}).values()
    ]
    assert len(kept) == 6
    assert state_bytes(model.config, dtype.itemsize) == sum(state.nbytes for state in kept) // 3


def test_other_models_keep_no_states(text_folder):
    assert state_bytes(load_model(text_folder).config, 4) == 0


@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.lists(st.integers(1, 400), max_size=6)), min_size=1, max_size=5
    )
)
def test_every_token_is_read_once_beside_little_padding(groups):
    segments = segments_of(groups)
    order = reading_order.reading_order(segments, CPU)
    calls = [*order.prompts, *order.responses]
    read_L = torch.cat([rows.index_mQ.flatten()[rows.real_N] for rows in calls])
    assert torch.equal(read_L[order.inverse_L], torch.arange(sum(segment.length for segment in segments)))
    for rows in calls:
        assert rows.index_mQ.numel() <= max(1.25 * len(rows.real_N), 256)
        width = rows.index_mQ.shape[1]
        last = rows.real_N[-1] if rows.prompt_m is None else rows.real_N[0]
        assert last % width == (width - 1 if rows.prompt_m is None else 0)
