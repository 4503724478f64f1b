"""Does the shared forward give what the plain one gives, on this model, this machine, this batch?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gmpo_vl.batching.packing import Packed
from gmpo_vl.models.forward import language_model, response_log_probs, unwrap

# Largest accepted gaps (log-prob in nats, gradient relative) by the dtype that the forward computes in. What two orders
# of the same sums differ by is about a tenth of these; a wrong mask or position is off by far more.
TOLERANCE = {
    torch.float64: (1e-6, 1e-5),  # transformers keeps norms in float32
    torch.float32: (1e-3, 1e-2),
    torch.bfloat16: (0.25, 0.2),
    torch.float16: (0.1, 0.1),
}


@dataclass(frozen=True)
class Proof:
    """log_prob_gap: largest |shared - plain|, nats. gradient_gap: |shared - plain| / |plain| of a layer's gradient."""

    log_prob_gap: float
    gradient_gap: float
    dtype: torch.dtype

    @property
    def holds(self) -> bool:
        log_prob, gradient = TOLERANCE[self.dtype]
        return self.log_prob_gap <= log_prob and self.gradient_gap <= gradient  # False for NaN

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"log-probs differ by {self.log_prob_gap:.1e}, a gradient by {self.gradient_gap:.1e} ({name})"


def prove_sharing(
    model: torch.nn.Module, packed: Packed, temperature: float, banned_ids: Sequence[int], dtype: torch.dtype
) -> Proof:
    """Run a micro-batch both ways and compare. Leaves no gradient behind.

    dtype: what the forward computes in (under autocast that of autocast).
    """
    layer: Any = language_model(unwrap(model)).layers[0]  # type: ignore[index]  # its gradient has come through all the others
    weights = [p for p in layer.parameters() if p.requires_grad]

    def run(share_prefix: bool) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs_BT, _ = response_log_probs(
            model, packed, temperature, banned_ids, share_prefix=share_prefix
        )
        if not weights:  # adapters elsewhere only: the log-probs have to do
            return log_probs_BT.detach(), torch.zeros(1)
        gradients = torch.autograd.grad(log_probs_BT.double().sum(), weights)
        return log_probs_BT.detach(), torch.cat([g.flatten().double() for g in gradients])

    shared, shared_gradient = run(True)
    plain, plain_gradient = run(False)
    gap = float((shared_gradient - plain_gradient).norm() / plain_gradient.norm()) if weights else 0.0
    return Proof(float((shared - plain).abs().max()), gap, dtype)
