"""The paper's mathematics as pure functions of tensors: objectives, advantages, one reduction, diagnostics.

Nothing here imports torch until a name that needs it is used, so the configuration can read
`gmpo_vl.policy.settings` without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmpo_vl.policy.advantages import group_advantages
    from gmpo_vl.policy.diagnostics import StepDiagnostics
    from gmpo_vl.policy.objectives import PolicyLoss, TokenDiagnostics, per_sequence_loss
    from gmpo_vl.policy.reduction import reduce_loss, sequence_weights, skippable, token_mean, total_weight
    from gmpo_vl.policy.regularisers import kl

_HOME = {
    "group_advantages": "advantages",
    "StepDiagnostics": "diagnostics",
    "PolicyLoss": "objectives",
    "TokenDiagnostics": "objectives",
    "per_sequence_loss": "objectives",
    "reduce_loss": "reduction",
    "sequence_weights": "reduction",
    "skippable": "reduction",
    "token_mean": "reduction",
    "total_weight": "reduction",
    "kl": "regularisers",
}

__all__ = [
    "PolicyLoss",
    "StepDiagnostics",
    "TokenDiagnostics",
    "group_advantages",
    "kl",
    "per_sequence_loss",
    "reduce_loss",
    "sequence_weights",
    "skippable",
    "token_mean",
    "total_weight",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
