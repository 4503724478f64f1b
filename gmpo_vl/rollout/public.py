"""One prompt's samples through a model's own forward, which finds pictures, positions and masks itself."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from gmpo_vl.models.families import Family, accepted
from gmpo_vl.models.geometry import rope_by_length
from gmpo_vl.rollout.cache import own_cache
from gmpo_vl.types import Prompt

CACHES = ("past_key_values", "cache_params")  # where models take a cache, and hand it back


class PublicRows:
    """n rows of one prompt. logits_RV: of each row's next token.

    The prompt runs once, then each token, with the model's own cache. Where that cannot be shared out to
    several rows, every token reads its whole row again: slow, but right.
    """

    def __init__(self, model: PreTrainedModel, family: Family, prompt: Prompt, n: int) -> None:
        self._model, self._family, self._prompt = model, family, prompt
        device = model.device
        self._ids_RT = torch.empty((n, 0), dtype=torch.int64, device=device)
        row_R = torch.zeros(n, dtype=torch.int64, device=device)
        out = self._read(self._ids_RT[0], use_cache=True, **self._caching(own_cache(model)))
        self.logits_RV = out.logits[:, -1][row_R]
        self._cache = next((c for name in CACHES if (c := getattr(out, name, None)) is not None), None)
        grows = rope_by_length(model.config.get_text_config()) is not None  # so do the keys that it keeps
        if grows or not _shared_out(self._cache, row_R):
            self._cache = None
            warnings.warn(
                f"{type(model).__name__} has no cache that samples can share: each of their tokens reads the "
                "whole text again",
                stacklevel=2,
            )

    def keep(self, index: torch.Tensor) -> None:
        self._ids_RT = self._ids_RT[index]
        if self._cache is not None:
            self._cache.reorder_cache(index)

    def feed(self, token_R: torch.Tensor) -> None:
        self._ids_RT = torch.cat([self._ids_RT, token_R[:, None]], dim=1)
        if self._cache is not None:
            # 4.57 leaves it to the caller to say where a token stands. No mask: with one, models that number
            # tokens themselves take the whole text to be new.
            at = torch.tensor([len(self._prompt.ids_P) + self._ids_RT.shape[1] - 1], device=token_R.device)
            options = self._caching(self._cache) | accepted(self._model, {"cache_position": at})
            self.logits_RV = self._model(input_ids=token_R[:, None], use_cache=True, **options).logits[:, -1]
        else:
            outs = [self._read(ids_T, use_cache=False) for ids_T in self._ids_RT]
            self.logits_RV = torch.cat([out.logits[:, -1] for out in outs])

    def _read(self, ids_T: torch.Tensor, **options: Any) -> Any:
        """The model's output for the prompt and these tokens of a response."""
        _forget_positions(self._model)
        ids_1L = torch.cat([self._prompt.ids_P.to(ids_T.device), ids_T])[None]
        inputs = self._family.public_inputs(self._model, self._prompt, len(ids_T))
        try:
            return self._model(
                input_ids=ids_1L,
                attention_mask=torch.ones_like(ids_1L),
                **inputs,
                **accepted(self._model, {**options, "logits_to_keep": 1}),
            )
        except ValueError as error:  # so transformers says that tokens and features differ in number
            if not self._prompt.images:
                raise
            raise ValueError(
                f"{self._prompt.example.id}: {type(self._model).__name__} refuses its pictures: {error}; are "
                "config.json, preprocessor_config.json, processor_config.json and the tokenizer's files "
                "those of these weights?"
            ) from error

    def _caching(self, cache: Any) -> dict[str, Any]:
        takes = inspect.signature(type(self._model).forward).parameters
        return {name: cache for name in CACHES if name in takes}


def _forget_positions(model: PreTrainedModel) -> None:
    """Some models keep how far a picture moved the positions: the next prompt's text would take it over."""
    for module in model.modules():
        if "rope_deltas" in vars(module):
            vars(module)["rope_deltas"] = None


def _shared_out(cache: Any, row_R: torch.Tensor) -> bool:
    """Give every row a copy of a one-row cache. Says whether all that the cache holds has these rows then.

    A cache may hold more than its `reorder_cache` knows of, and models make caches of classes of their own.
    """
    if not hasattr(cache, "reorder_cache") or {len(x) for x in _states(cache)} != {1}:
        return False
    cache.reorder_cache(row_R)
    return {len(x) for x in _states(cache)} == {len(row_R)}


def _states(cache: Any) -> Iterator[torch.Tensor]:
    """All tensors of floating-point numbers that a cache holds, wherever in its parts."""
    parts, seen = [cache], set()
    while parts:
        part = parts.pop()
        if id(part) in seen or isinstance(part, type | PretrainedConfig):
            continue
        seen.add(id(part))
        if isinstance(part, torch.Tensor):
            if part.is_floating_point() and part.ndim > 0:
                yield part
        elif isinstance(part, list | tuple):
            parts += part
        else:
            parts += (part if isinstance(part, dict) else getattr(part, "__dict__", {})).values()
