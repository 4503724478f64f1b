"""The cache holds what transformers' own holds, whatever happens to its rows."""

import pytest
import torch
from transformers import DynamicCache

from gmpo_vl.rollout import cache as cache_module
from gmpo_vl.rollout.cache import roomy_cache


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
        cache.batch_repeat_interleave(3)
    rows = 6
    for _ in range(9):
        feed(1)
    assert len(buffers) == 3, "the prompt's, and two for nine tokens"
    for cache in (ours, theirs):
        cache.batch_select_indices(torch.tensor([4, 0, 1]))
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
