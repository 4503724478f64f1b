"""Which objectives there are and what each can be told: plain data, read by the configuration without importing torch.

Keys are those of `worker.actor`. `log_clip_low/high` bound the importance ratio in LOG space: the ratio stays in
[e^-low, e^high]. `clip_ratio_low/high` are offsets in RATIO space: the ratio stays in [1 - low, 1 + high].
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal


@dataclass(frozen=True)
class Objective:
    """One row of the family.

    defaults: every option the objective reads, with the value it has when nothing is written.
    clips: what the clip looks at: each token's log-ratio, the sequence's mean or sum of them, or nothing.
    weight: of a sequence in the mean over the mini-batch: 1 ("sequence") or its number of tokens ("token").
    """

    source: str
    defaults: Mapping[str, float] = field(default_factory=dict)
    clips: Literal["token", "sequence_mean", "sequence_sum", "nothing"] = "token"
    weight: Literal["sequence", "token"] = "sequence"


_LOG_CLIP = {"log_clip_low": 0.4, "log_clip_high": 0.4}
_RATIO_CLIP = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.2}

OBJECTIVES: dict[str, Objective] = {
    "gmpo": Objective("Eq. 5; Table 3, row 5", _LOG_CLIP),
    "grpo": Objective("Eq. 1; Table 3, row 1", _RATIO_CLIP),
    "gmpo_noclip": Objective("Eq. 3; Table 3, row 2", {}, clips="nothing"),
    "gmpo_seqclip": Objective("Table 3, row 3", _LOG_CLIP, clips="sequence_sum"),
    "gmpo_nonorm": Objective("Table 3, row 4", _LOG_CLIP),
    "hmpo": Objective("Table 5, harmonic mean", _LOG_CLIP),
    "iqm": Objective("Table 5, interquartile mean (Definition 2)", _LOG_CLIP),
    # mean_power p of M_p: 1 arithmetic, 0 geometric, -1 harmonic.
    "power_mean": Objective("Definition 1", {**_LOG_CLIP, "mean_power": 0.0}),
    # length_constant: tokens; the cap of the response length (the paper's, and Dr. GRPO's, is 3,000).
    "dr_grpo": Objective("Liu et al., 2025", {**_RATIO_CLIP, "length_constant": 3000}),
    "dapo": Objective("Yu et al., 2025", {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28}, weight="token"),
    "gspo": Objective(
        "Zheng et al., 2025", {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4}, clips="sequence_mean"
    ),
}

ADVANTAGE_ESTIMATORS: dict[str, str] = {
    "grpo": "(r - mean) / (std + 1e-6) within the group (Eq. 1)",
    "grpo_no_std": "r - mean within the group (Dr. GRPO)",
}

# Everything that tells some loss, ours or EasyR1's, what to do. A written key of this set must be used by the loss.
OBJECTIVE_KEYS: frozenset[str] = frozenset(
    {key for objective in OBJECTIVES.values() for key in objective.defaults}
    | {"clip_ratio_dual", "loss_avg_mode", "tau_positive", "tau_negative"}
)


def check_loss_type(loss_type: str) -> None:
    """ValueError with the nearest name when there is no such objective."""
    if loss_type not in OBJECTIVES:
        raise ValueError(f"loss_type: no objective is called {loss_type!r}{_nearest(loss_type, OBJECTIVES)}")


def check_settings(loss_type: str, written: Collection[str]) -> None:
    """ValueError when the objective is unknown, or when it does not use an option that somebody wrote.

    written: names of options only. A configuration passes the written keys of `worker.actor` that are in
    `OBJECTIVE_KEYS`; its other keys are not the objective's business.
    """
    check_loss_type(loss_type)
    used = OBJECTIVES[loss_type].defaults
    for key in sorted(set(written) - set(used)):
        takers = sorted(name for name, objective in OBJECTIVES.items() if key in objective.defaults)
        whose = f"; {key} belongs to {', '.join(takers)}" if takers else ""
        raise ValueError(f"loss_type {loss_type} does not use {key}{_nearest(key, used)}{whose}")


def resolve_settings(loss_type: str, settings: Mapping[str, float]) -> dict[str, float]:
    """The objective's defaults overwritten by `settings`; ValueError for names and values it cannot take."""
    check_settings(loss_type, settings.keys())
    resolved = {**OBJECTIVES[loss_type].defaults, **settings}
    for key, value in resolved.items():
        if math.isnan(value):
            raise ValueError(f"{key} is NaN")
        if key.startswith(("log_clip", "clip_ratio")) and value < 0:
            raise ValueError(
                f"{key} is {value}: it is the distance from ratio 1 on its side, so it is not negative"
            )
        if key == "length_constant" and not 0 < value < math.inf:
            raise ValueError(f"length_constant is {value}: it is a number of tokens, above 0")
        if key == "mean_power" and math.isinf(value):
            raise ValueError("mean_power is infinite: use a finite power")
        if key == "clip_ratio_low" and value > 1:
            raise ValueError(f"clip_ratio_low is {value}: the ratio's lower limit is 1 - {value}, below zero")
    return resolved


def check_estimator(estimator: str) -> None:
    """ValueError with the nearest name when there is no such advantage estimator."""
    if estimator not in ADVANTAGE_ESTIMATORS:
        raise ValueError(
            f"adv_estimator: none is called {estimator!r}{_nearest(estimator, ADVANTAGE_ESTIMATORS)}"
        )


def log_clip_limits(settings: Mapping[str, float]) -> tuple[float, float]:
    """(low, high) limits of the log-ratio, low <= 0 <= high, from either way of writing them; infinite without a clip."""
    if "log_clip_low" in settings:
        return -settings["log_clip_low"], settings["log_clip_high"]
    if "clip_ratio_low" in settings:
        offset_low, offset_high = settings["clip_ratio_low"], settings["clip_ratio_high"]
        return (math.log1p(-offset_low) if offset_low < 1 else -math.inf), math.log1p(offset_high)
    return -math.inf, math.inf


def _nearest(name: str, known: Collection[str]) -> str:
    if not known:
        return "; it has no options"
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(known))}"
