"""The paper's mathematics as pure functions of tensors: objectives, advantages, one reduction, diagnostics.

Nothing here imports torch until a name that needs it is used, so the configuration can read
`gmpo_vl.policy.objectives` without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmpo_vl.policy.advantages import group_advantages as group_advantages
    from gmpo_vl.policy.advantages import step_advantages as step_advantages
    from gmpo_vl.policy.corrections import accepted_tokens as accepted_tokens
    from gmpo_vl.policy.corrections import log_rollout_weights as log_rollout_weights
    from gmpo_vl.policy.corrections import rejections as rejections
    from gmpo_vl.policy.diagnostics import StepDiagnostics as StepDiagnostics
    from gmpo_vl.policy.divergence import RolloutMismatch as RolloutMismatch
    from gmpo_vl.policy.divergence import kl as kl
    from gmpo_vl.policy.divergence import kl_to_start as kl_to_start
    from gmpo_vl.policy.divergence import kl_to_start_sums as kl_to_start_sums
    from gmpo_vl.policy.episodes import Episodes as Episodes
    from gmpo_vl.policy.episodes import TurnRules as TurnRules
    from gmpo_vl.policy.episodes import turn_advantages as turn_advantages
    from gmpo_vl.policy.episodes import turn_weights as turn_weights
    from gmpo_vl.policy.loss import PolicyLoss as PolicyLoss
    from gmpo_vl.policy.loss import TokenDiagnostics as TokenDiagnostics
    from gmpo_vl.policy.loss import per_sequence_loss as per_sequence_loss
    from gmpo_vl.policy.loss import reduce_loss as reduce_loss
    from gmpo_vl.policy.loss import sequence_weights as sequence_weights
    from gmpo_vl.policy.loss import skippable as skippable
    from gmpo_vl.policy.loss import total_weight as total_weight
    from gmpo_vl.policy.means import token_mean as token_mean
    from gmpo_vl.policy.own import OwnObjective as OwnObjective
    from gmpo_vl.policy.perception import perception_kl as perception_kl

_NAMES = {
    "advantages": "group_advantages step_advantages",
    "corrections": "accepted_tokens log_rollout_weights rejections",
    "diagnostics": "StepDiagnostics",
    "divergence": "RolloutMismatch kl kl_to_start kl_to_start_sums",
    "episodes": "Episodes TurnRules turn_advantages turn_weights",
    "loss": "PolicyLoss TokenDiagnostics per_sequence_loss reduce_loss sequence_weights skippable "
    "total_weight",
    "means": "token_mean",
    "own": "OwnObjective",
    "perception": "perception_kl",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
