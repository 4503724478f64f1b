"""A key-value cache that does not copy itself for every token."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from gmpo_vl.models.shared import computing_dtype

ROOM = 256  # tokens of spare room that a layer takes at a time
# Tokens of prompts, padding included, in one forward. Longer rows are no faster.
PREFILLED = 16_384


class RoomyLayer(DynamicLayer):
    """transformers' growing layer, but new tokens go into spare room instead of a new tensor.

    It stores the dtype of attention: under autocast, each new token would cast all float32 keys again.
    """

    # (2, rows, heads, length + room, width): keys and values; None until something is appended.
    _buffer: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        dtype = computing_dtype(key_states)
        key_states, value_states = key_states.to(dtype), value_states.to(dtype)
        seen = self.get_seq_length()
        if seen == 0:
            return super().update(key_states, value_states, *args, **kwargs)
        length = seen + key_states.shape[-2]
        if self._buffer is None or length > self._buffer.shape[-2]:
            assert self.keys is not None
            assert self.values is not None
            rows, heads, _, width = self.keys.shape
            self._buffer = self.keys.new_empty(2, rows, heads, length + ROOM, width)
            self._buffer[0, :, :, :seen], self._buffer[1, :, :, :seen] = self.keys, self.values
        self._buffer[0, :, :, seen:length] = key_states
        self._buffer[1, :, :, seen:length] = value_states
        self.keys, self.values = self._buffer[:, :, :, :length].unbind(0)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._buffer = None

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._buffer = None


def joined(caches: list[Cache]) -> Cache:
    """Caches of prompts of one padded length as one, their rows in order. Frees the parts layer by layer."""
    first, *others = caches
    for number, layer in enumerate(first.layers if others else []):
        parts: list[Any] = [layer, *(cache.layers[number] for cache in others)]
        keys, values = (torch.cat([getattr(part, name) for part in parts]) for name in ("keys", "values"))
        for part in parts[1:]:
            part.keys = part.values = None
        parts[0].keys, parts[0].values = keys, values
    return first


def roomy_cache() -> Cache:
    """An empty cache for generation; layers come as the model asks for them."""
    return Cache(layer_class_to_replicate=RoomyLayer)
