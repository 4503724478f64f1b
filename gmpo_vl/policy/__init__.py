"""The paper's mathematics as pure functions of tensors: objectives, advantages, one reduction, diagnostics.

Nothing here imports torch until a name that needs it is used, so the configuration can read
`gmpo_vl.policy.settings` without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmpo_vl.policy.advantages import group_advantages
    from gmpo_vl.policy.correction import RolloutMismatch, rollout_correction
    from gmpo_vl.policy.diagnostics import StepDiagnostics
    from gmpo_vl.policy.distance import kl_to_start, kl_to_start_sums
    from gmpo_vl.policy.objectives import PolicyLoss, TokenDiagnostics, per_sequence_loss
    from gmpo_vl.policy.reduction import reduce_loss, sequence_weights, skippable, token_mean, total_weight
    from gmpo_vl.policy.regularisers import kl

_HOME = {
    "group_advantages": "advantages",
    "RolloutMismatch": "correction",
    "rollout_correction": "correction",
    "StepDiagnostics": "diagnostics",
    "PolicyLoss": "objectives",
    "TokenDiagnostics": "objectives",
    "per_sequence_loss": "objectives",
    "kl_to_start": "distance",
    "kl_to_start_sums": "distance",
    "reduce_loss": "reduction",
    "sequence_weights": "reduction",
    "skippable": "reduction",
    "token_mean": "reduction",
    "total_weight": "reduction",
    "kl": "regularisers",
}

__all__ = [
    "PolicyLoss",
    "RolloutMismatch",
    "StepDiagnostics",
    "TokenDiagnostics",
    "group_advantages",
    "kl",
    "kl_to_start",
    "kl_to_start_sums",
    "per_sequence_loss",
    "reduce_loss",
    "rollout_correction",
    "sequence_weights",
    "skippable",
    "token_mean",
    "total_weight",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
