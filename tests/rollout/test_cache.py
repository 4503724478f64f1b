"""The cache holds what transformers' own holds, whatever happens to its rows."""

import pytest
import torch
from transformers import AutoConfig, DynamicCache, Qwen2ForCausalLM

from gmpo_vl.models.compat import TRANSFORMERS_5
from gmpo_vl.rollout import cache as cache_module
from gmpo_vl.rollout.cache import RoomyLayer, joined, own_cache, state_tokens

SMALL = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
SMALL |= {"intermediate_size": 16, "vocab_size": 32}


def roomy_cache():
    model = Qwen2ForCausalLM(AutoConfig.for_model("qwen2", **SMALL))
    cache = own_cache(model)
    assert [type(layer) for layer in cache.layers] == [RoomyLayer, RoomyLayer]
    return cache


def test_equals_transformers_own_cache_and_copies_rarely(monkeypatch):
    monkeypatch.setattr(cache_module, "ROOM", 4)
    ours, theirs = roomy_cache(), DynamicCache()
    rows, buffers = 2, set()

    def feed(length: int) -> None:
        states = torch.randn(2, rows, 3, length, 5)
        for layer in (0, 1):
            results = [cache.update(states[0], states[1], layer) for cache in (ours, theirs)]
            for a, b in zip(*results):
                assert torch.equal(a, b)
        buffers.add(ours.layers[0].keys.untyped_storage().data_ptr())
        assert ours.get_seq_length() == theirs.get_seq_length()

    feed(7)
    for cache in (ours, theirs):
        cache.reorder_cache(torch.arange(2).repeat_interleave(3))
    rows = 6
    for _ in range(9):
        feed(1)
    assert len(buffers) == 3, "the prompt's, and two for nine tokens"
    for cache in (ours, theirs):
        cache.reorder_cache(torch.tensor([4, 0, 1]))
    rows = 3
    for _ in range(6):
        feed(1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_it_keeps_what_attention_computes_with(dtype):
    cache = roomy_cache()
    with torch.autocast("cpu", dtype=dtype):
        for length in (7, 1, 1):
            states = torch.randn(2, 3, 2, length, 4)  # rotated keys are float32, values are not
            for result in cache.update(states[0], states[1].to(dtype), 0):
                assert result.dtype == dtype
    for states in (torch.randn(2, 1, 2, 3, 4), torch.randn(2, 1, 2, 3, 4, dtype=torch.float64)):
        plain = roomy_cache()
        assert plain.update(states[0], states[1], 0)[0].dtype == states.dtype, "as it comes without autocast"


def test_windows_keep_their_own_layers_and_are_joined_too():
    windows = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    model = Qwen2ForCausalLM(AutoConfig.for_model("qwen2", **SMALL, **windows))
    states = torch.randn(2, 5, 1, 7, 8)

    def filled(rows):
        cache = own_cache(model)
        for layer in (0, 1):
            cache.update(states[0, rows], states[1, rows], layer)
        return cache

    whole = filled(slice(0, 5))
    parts = joined([filled(slice(0, 2)), filled(slice(2, 3)), filled(slice(3, 5))])
    assert [layer.is_sliding for layer in whole.layers] == [False, True]
    for one, other in zip(whole.layers, parts.layers):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)
    assert whole.layers[1].keys.shape[2] == 3, "a window of 4 less the next token"


@pytest.mark.skipif(not TRANSFORMERS_5, reason="4.57 does not know Qwen3.5")
def test_a_states_memory_in_tokens():
    """Of Qwen3.5-9B: 24 of 32 layers have a state, 50 MB a row, as much as 1,600 tokens' keys and values."""
    published = {
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 8,
    }
    state = 24 * (32 * 128 * 128 * 4 + (2 * 16 + 32) * 128 * 4 * 2)
    token = 8 * 2 * 4 * 256 * 2
    found = state_tokens(AutoConfig.for_model("qwen3_5_text", **published))
    assert found == -(-state // token) == 1584
    assert state_tokens(AutoConfig.for_model("qwen2", **SMALL)) == 0
