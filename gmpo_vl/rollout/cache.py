"""A model's own key-value cache, whose layers of full attention do not copy themselves for every token."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from gmpo_vl.models.geometry import rope_by_length, state_bytes, token_bytes
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
        if seen == 0 or key_states.shape[-1] != value_states.shape[-1]:
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

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        super().reorder_cache(beam_idx)  # type: ignore[arg-type]
        self._buffer = None


def own_cache(model: Any) -> Cache | None:
    """An empty cache with a layer of the model's own kind for each of its layers: keys and values, those of a
    sliding window, or a state. None for a model that makes a cache of its own class itself, and where the
    keys of a text change as it grows."""
    if not model._supports_default_dynamic_cache() or rope_by_length(model.config.get_text_config()):
        return None
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def joined(caches: list[Cache]) -> Cache:
    """Caches of prompts of one padded length as one, their rows in order. Frees the parts layer by layer."""
    first, *others = caches
    for number, layer in enumerate(first.layers if others else []):
        parts = [layer, *(cache.layers[number] for cache in others)]
        for holders, key in _tensors(parts):
            whole = torch.cat([holder[key] for holder in holders])
            for holder in holders[1:]:
                holder[key] = None
            holders[0][key] = whole
    return first


def _tensors(parts: list[Any]) -> list[tuple[list[dict[Any, Any]], Any]]:
    """Where the same layer of several caches holds its tensors: the dictionaries, and the key in each."""
    found = [([vars(part) for part in parts], name) for name in ("keys", "values")]
    for name in ("conv_states", "recurrent_states"):
        found += [([getattr(part, name) for part in parts], key) for key in getattr(parts[0], name, ())]
    return [(holders, key) for holders, key in found if holders[0].get(key) is not None]


def state_tokens(config: Any) -> int:
    """Tokens of keys and values that take as much memory as one row's states; 0 without states."""
    size = state_bytes(config, 2)
    return -(-size // token_bytes(config, 2)) if size else 0
