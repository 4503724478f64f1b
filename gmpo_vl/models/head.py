"""From hidden states to log-probs, in chunks, so that the logits of a whole micro-batch never exist at
once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from gmpo_vl.models.geometry import inner_model

# Positions per call of the head. Logits of a whole micro-batch are tokens x 152k.
HEAD_CHUNK = 2048


def head_log_probs(
    head: Callable[[torch.Tensor], torch.Tensor],
    hidden_MH: torch.Tensor,
    targets_M: torch.Tensor,
    temperature: float,
    banned_ids: Sequence[int],
    with_entropy: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probs (M,) of the targets and entropies (M,) in nats, or None.

    head: from states (N, hidden) to logits (N, V); called as a module, so its adapter counts. The backward
    recomputes each chunk's logits.
    """

    def chunk(hidden: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs = token_log_probs(head(hidden), temperature, banned_ids)
        chosen = log_probs.gather(-1, targets[:, None]).squeeze(-1)
        return chosen, entropy(log_probs) if with_entropy else chosen

    several = len(targets_M) > HEAD_CHUNK and torch.is_grad_enabled()
    parts = [
        checkpoint(chunk, h, t, use_reentrant=False) if several else chunk(h, t)
        for h, t in zip(hidden_MH.split(HEAD_CHUNK), targets_M.split(HEAD_CHUNK))
    ]
    log_probs_M = torch.cat([part[0] for part in parts])
    return log_probs_M, torch.cat([part[1] for part in parts]) if with_entropy else None


class _Final(BaseModelOutputWithPast):
    """What a model's forward gets of its inner model: final states, and None of all else."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def own_logits(model: PreTrainedModel, hidden_NH: torch.Tensor) -> torch.Tensor:
    """Logits (N, V) as the model's own forward makes them of final states: whatever it scales or caps.

    The inner model is left out: for this call it hands back the states.
    """
    inner = inner_model(model)
    if inner is model:
        raise RuntimeError(f"{type(model).__name__} has no inner model that ends before its head")
    ids_1N = torch.zeros((1, len(hidden_NH)), dtype=torch.int64, device=hidden_NH.device)
    before = vars(inner).get("forward")
    inner.forward = lambda *_, **__: _Final(last_hidden_state=hidden_NH[None])  # type: ignore[arg-type]
    try:
        return type(model).forward(model, input_ids=ids_1N, use_cache=False).logits[0]  # type: ignore
    finally:
        if before is None:
            del inner.forward
        else:
            inner.forward = before


def entropy(log_probs: torch.Tensor) -> torch.Tensor:
    """Entropy in nats over the last axis. A banned id contributes 0: p log p -> 0."""
    return -(log_probs.exp() * log_probs.masked_fill(log_probs == -torch.inf, 0.0)).sum(-1)


def token_log_probs(logits: torch.Tensor, temperature: float, banned_ids: Sequence[int]) -> torch.Tensor:
    """log-softmax of logits (..., V) / temperature with banned ids at -inf, in float32 (float64 stays)."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if banned_ids:
        banned_V = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        banned_V[list(banned_ids)] = True
        logits = logits.masked_fill(banned_V, -torch.inf)
    return torch.log_softmax(logits / temperature, dim=-1)
