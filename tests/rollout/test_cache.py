"""The cache holds what transformers' own holds, whatever happens to its rows."""

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
