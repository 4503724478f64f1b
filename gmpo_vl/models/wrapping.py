"""Log-probs of a sharded model.

FSDP gathers a model's weights when the wrapped module is *called*, so everything that reads them must happen inside that
call. `answer_packed` makes the call do it:

    answer_packed(model)                  # before wrapping; works on a PEFT model too
    sharded = FullyShardedDataParallel(model, auto_wrap_policy=...)
    log_probs_BT, entropy_BT = sharded(packed, temperature, banned_ids, visit_vision=True)

The head must not be a unit of its own unless it is called as a module, which `response_log_probs` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch

from gmpo_vl.batching.packing import Packed
from gmpo_vl.models.forward import prompt_features, response_log_probs, unwrap
from gmpo_vl.types import ImageSettings, Prompt


@dataclass(frozen=True)
class Look:
    """Asks a model that answers packed what its ViT makes of these prompts' pictures; of none: to run it all the same."""

    prompts: Sequence[Prompt]
    image: ImageSettings


def answer_packed(model: torch.nn.Module) -> None:
    """Change this model object: `model(packed, ...)` is `response_log_probs(model, packed, ...)`, and `model(look)` the
    `prompt_features` of what it asks for.

    Any other call is the model's own forward. `visit_vision=True` is for models whose ViT is sharded: a rank whose
    micro-batch has no picture must take part in gathering it all the same.
    """
    model.forward = MethodType(_forward, model)


def _forward(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
    if args and isinstance(args[0], Packed):
        return response_log_probs(self, *args, **kwargs)
    if args and isinstance(args[0], Look):
        return prompt_features(unwrap(self), args[0].prompts, args[0].image, visit_vision=True)
    return type(self).forward(self, *args, **kwargs)
