"""The loss and the optimizer of the warm-ups: orthogonalised momentum for matrices, AdamW for the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from gmpo_vl.models.families import Family
from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.packing import pack
from gmpo_vl.types import Prompt


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum (Jordan et al. 2024) at AdamW's usual step (Liu et al. 2025: 0.2 √(max dim)).

    A tensor of three dimensions is a stack of matrices (the experts of a layer), one of more a matrix of its
    first dimension and the others (a convolution). torch.optim.Muon does the same in bf16, which most CPUs
    emulate: several times slower.
    """

    def __init__(self, parameters, lr: float):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 0.05)
                update = parameter.grad.lerp(momentum, 0.95)
                matrices = update if update.ndim == 3 else update.flatten(1)[None]
                by_shape[matrices.shape].append((parameter, matrices))
            for (_, rows, columns), pairs in by_shape.items():
                updates = orthogonalize(torch.stack([update for _, update in pairs]))
                for (parameter, _), update in zip(pairs, updates):
                    scale = 0.2 * max(rows, columns) ** 0.5
                    parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)


def orthogonalize(x_RC: torch.Tensor) -> torch.Tensor:
    """Singular values of each matrix (..., R, C) to about 1, by five Newton-Schulz steps (quintic, Jordan's
    coefficients).
    """
    if x_RC.shape[-2] > x_RC.shape[-1]:
        return orthogonalize(x_RC.mT).mT
    x_RC = x_RC / (x_RC.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x_RC @ x_RC.mT
        x_RC = 3.4445 * x_RC + (-4.7750 * gram + 2.0315 * gram @ gram) @ x_RC
    return x_RC


def make_optimizers(model: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the network, the patch projection among them; AdamW for embeddings, norms
    and biases.
    """
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim >= 2 and "embed_tokens" not in name else others).append(parameter)
    return [Muon(matrices, lr), torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]


def learning_rate(step: int, steps: int, peak: float, fall: float) -> float:
    """50 steps up, flat, and over the last `fall` (0 to 1) of the steps straight down to zero."""
    return peak * min(1.0, (step + 1) / 50, (1 - step / steps) / fall)


def mean_loss(
    model: torch.nn.Module,
    rows: Sequence[tuple[Prompt, torch.Tensor]],
    family: Family,
    banned: tuple[int, ...] = (),
) -> torch.Tensor:
    """Minus the mean log-probability (nats) of the answers' tokens. rows: a prompt and its answer's ids."""
    packed = pack(rows, family, model.device)
    log_probs_BT, _ = response_log_probs(model, packed, 1.0, banned)
    return -log_probs_BT.sum() / packed.mask_BT.sum()


def update(
    model: torch.nn.Module, optimizers: list[torch.optim.Optimizer], loss: torch.Tensor, rate: float
) -> None:
    """A step down the loss, its gradient clipped to a norm of 1."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
