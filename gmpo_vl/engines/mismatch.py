"""The guard against a sampler that is not the policy: its log-probs against the trainer's, on every step.

`rollout/mismatch_p50` and `_rms` are the median and the root mean square of a step's gaps: of the log-probs
of the sampled tokens, in nats. A fault shows in one of two ways:

- A jump: a weight that was not brought over, a wrong temperature, a missing picture. The median is above what
  rounding explains (`Engine.tolerated_mismatch`).
- A trend: the sampler stays behind while the policy moves, which shows late at a small learning rate. The
  median of the last five steps is on average above `GROWTH` times that of the run's first two, and above
  `SHARE` of what rounding explains of it.

The same trend of the root mean square is only a warning: a few tokens in thousands decide it, and in bf16
those are far off in sound runs, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch.nn.utils.rnn import pad_sequence

from gmpo_vl.config import ConfigError
from gmpo_vl.policy import RolloutMismatch
from gmpo_vl.types import Group

MEDIAN = "rollout/mismatch_p50"
RMS = "rollout/mismatch_rms"
FIRST, LAST = 2, 5
GROWTH, SHARE = 2.5, 1 / 8  # docs/decisions.md has the figures they stand between

_CAUSES = (
    "They do not compute the same model: training would be off-policy. Known causes: weights or an adapter "
    "that do not reach the sampler (a vLLM, peft or EasyR1 other than the tested ones), another chat "
    "template or image size there. Nothing of this step was saved"
)


def rollout_mismatch(groups: Sequence[Group]) -> dict[str, float]:
    """`rollout/mismatch_*`: how far the sampler's log-probs are from the trainer's.

    groups: those sampled by the policy whose log-probs `old_log_probs` holds.
    """
    mismatch = RolloutMismatch()
    for group in groups:
        old_GT = pad_sequence(group.old_log_probs, batch_first=True)
        rollout_GT = pad_sequence([r.rollout_log_probs_T for r in group.responses], batch_first=True)
        mask_GT = pad_sequence([torch.ones(len(r.ids_T)) for r in group.responses], batch_first=True)
        mismatch.add(old_GT, rollout_GT, mask_GT)
    return mismatch.result()


def trend_figures(metrics: Mapping[str, float | None]) -> dict[str, float] | None:
    """What later steps are compared with. None where a step measured nothing, or something infinite."""
    found = {name: value for name in (MEDIAN, RMS) if (value := metrics.get(name)) is not None}
    return found if len(found) == 2 and all(map(math.isfinite, found.values())) else None


def check_mismatch(
    metrics: Mapping[str, float], tolerated: Mapping[str, float], earlier: Sequence[Mapping[str, float]]
) -> str | None:
    """Raise ConfigError where sampler and trainer are too far apart for rounding, or return a warning.

    metrics: a step's; without `rollout/mismatch_*` nothing was compared. tolerated: largest accepted value of
    some of them. earlier: `trend_figures` of the run's earlier steps.
    """
    if "rollout/mismatch_kl" not in metrics:
        return None
    for name, most in tolerated.items():
        gap = metrics.get(name, math.nan)
        if not gap <= most:  # NaN too
            raise ConfigError(
                f"{name}: the log-probs of the sampler and the trainer differ by {gap:.3g} nats (rounding "
                f"explains {most:g}). {_CAUSES}"
            )
    figures = trend_figures(metrics)
    if MEDIAN not in tolerated or figures is None:
        return None
    steps, floor = [*earlier, figures], SHARE * tolerated[MEDIAN]
    if _drifts(steps, MEDIAN, floor):
        first, last = _ends(steps, MEDIAN)
        raise ConfigError(
            f"{MEDIAN}: the log-probs of the sampler and the trainer drift apart: their median was "
            f"{first:.3g} nats in the run's first {FIRST} steps and is {last:.3g} in the last {LAST}. "
            f"{_CAUSES}. Where both are known to be right, go on from the last checkpoint "
            "(trainer.load_checkpoint_path) under another trainer.experiment_name"
        )
    if _drifts(steps, RMS, floor) and not _drifts(earlier, RMS, floor):  # said once
        first, last = _ends(steps, RMS)
        return (
            f"WARNING: {RMS} grew from {first:.3g} to {last:.3g} nats since the run's first {FIRST} steps. "
            f"If {MEDIAN} grows as well, the sampler does not follow the policy"
        )
    return None


def _drifts(steps: Sequence[Mapping[str, float]], name: str, floor: float) -> bool:
    """Does this figure of the last steps stand out from that of the first ones?"""
    if len(steps) < FIRST + LAST:
        return False
    first, last = _ends(steps, name)
    return last > max(GROWTH * first, floor)


def _ends(steps: Sequence[Mapping[str, float]], name: str) -> tuple[float, float]:
    """The figure's mean over the run's first steps, and over the last."""
    first, last = (fmean(step[name] for step in some) for some in (steps[:FIRST], steps[-LAST:]))
    return first, last
