"""Corrections for a sampler that is not the trainer's old policy: weights, and rejections.

With w_t = pi_old(y_t) / pi_s(y_t) of a response's tokens, pi_s the sampler's. All of it is known before the
first forward of an update, and has no gradient. Names and meanings are those of verl's rollout correction
(verl/trainer/ppo/rollout_corr_helper.py); `geometric` is ours. docs/corrections.md derives what each does to
bias and variance. The configuration reads this file: importing it loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from gmpo_vl.policy.means import token_mean
from gmpo_vl.storage.names import nearest_or_all

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = ("token", "sequence", "geometric")

# verl's bound of a log-ratio, in nats: exp of it stays a number.
_BOUND = 20.0

# Estimates of a token's divergence from d = log w_t. verl's k1 is -d: its limits bound pi_s / pi_old.
_ESTIMATES: dict[str, Callable[[Tensor], Tensor]] = {
    "k1": lambda d: -d,
    "k2": lambda d: d.square() / 2,
    "k3": lambda d: d.expm1() - d,
}
REJECTIONS = (
    *("token_k1", "token_k2", "token_k3"),
    *("seq_sum_k1", "seq_sum_k2", "seq_sum_k3"),
    *("seq_mean_k1", "seq_mean_k2", "seq_mean_k3"),
    *("seq_max_k2", "seq_max_k3"),
)


@dataclass(frozen=True)
class Rejection:
    """An option of `rollout_rs`: its statistic is accepted from low to high, both included, in nats."""

    name: str
    low: float
    high: float


def log_rollout_weights(
    old_log_probs_BT: Tensor, rollout_log_probs_BT: Tensor, mask_BT: Tensor, kind: str, threshold: float
) -> Tensor:
    """log of the weights of what the sampler drew, float64, at most log(threshold).

    `token`: min(w_t, C), (B, T), log 1 where the mask is 0. `sequence`: min(prod_t w_t, C), (B,).
    `geometric`: min((prod_t w_t)^(1/|o|), C), (B,). mask_BT: all tokens of a response, the rejected ones
    included: a weight is that of the whole response. An empty row gets 1.
    """
    if kind not in WEIGHTS:
        raise ValueError(f"rollout_is: there is no {kind!r}{nearest_or_all(kind, WEIGHTS)}")
    if not threshold >= 1:
        raise ValueError(f"rollout_is_threshold is {threshold}: it bounds a ratio, so it is at least 1")
    log_ratio_BT = _log_ratio(old_log_probs_BT, rollout_log_probs_BT, mask_BT)
    if kind == "token":
        log_weights = log_ratio_BT
    elif kind == "sequence":
        log_weights = log_ratio_BT.sum(-1)
    else:
        log_weights = token_mean(log_ratio_BT, mask_BT)
    return log_weights.clamp(-_BOUND, min(_BOUND, math.log(threshold)))


def accepted_tokens(
    old_log_probs_BT: Tensor,
    rollout_log_probs_BT: Tensor,
    mask_BT: Tensor,
    options: tuple[Rejection, ...],
) -> Tensor:
    """bool (B, T): tokens of the mask that every option accepts.

    A `seq_*` option takes or leaves all tokens of a response, by the sum, the mean or the largest of their
    estimates. Each looks at all of mask_BT, whatever another one rejects.
    """
    mask_BT = mask_BT.bool()
    log_ratio_BT = _log_ratio(old_log_probs_BT, rollout_log_probs_BT, mask_BT).clamp(-_BOUND, _BOUND)
    accepted_BT = mask_BT
    for option in options:
        level, _, estimate = option.name.rpartition("_")
        found = _ESTIMATES[estimate](log_ratio_BT)
        if level == "seq_sum":
            found = found.sum(-1, keepdim=True)
        elif level == "seq_mean":
            found = token_mean(found, mask_BT)[:, None]
        inside = (found >= option.low) & (found <= option.high)  # not a NaN
        if level == "seq_max":
            inside = inside.all(-1, keepdim=True)
        accepted_BT = accepted_BT & inside
    return accepted_BT


def _log_ratio(old_log_probs_BT: Tensor, rollout_log_probs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """log w_t, float64, 0 where the mask is 0."""
    gap_BT = old_log_probs_BT.detach().double() - rollout_log_probs_BT.detach().double()
    return gap_BT.where(mask_BT.bool(), 0.0)


@cache
def rejections(options: str, thresholds: str | float | None) -> tuple[Rejection, ...]:
    """What `rollout_rs` and `rollout_rs_threshold` say, read as verl reads them.

    options: of REJECTIONS, separated by commas. thresholds: one for each, or one for all. For a `*_k1`
    option "LOWER_UPPER", limits of the ratio pi_s / pi_old, or a number, the upper limit, whose reciprocal is
    then the lower one; for the others a number, the upper limit in nats. ValueError for anything else.
    """
    names = [name.strip() for name in options.split(",") if name.strip()]
    for name in names:
        if name not in REJECTIONS:
            raise ValueError(f"rollout_rs: there is no {name!r}{nearest_or_all(name, REJECTIONS)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"rollout_rs is {options!r}: name each option once, separated by commas")
    if thresholds is None:
        raise ValueError(f"rollout_rs is {options!r}: it needs rollout_rs_threshold")
    limits = [limit.strip() for limit in str(thresholds).split(",") if limit.strip()]
    if len(limits) not in (1, len(names)):
        raise ValueError(
            f"rollout_rs_threshold is {thresholds!r}: write one for all options, or one for each of the "
            f"{len(names)} of rollout_rs"
        )
    one_for_all = len(limits) == 1
    limits = limits * len(names) if one_for_all else limits
    try:
        return tuple(_rejection(name, limit) for name, limit in zip(names, limits))
    except ValueError as error:
        if one_for_all and len({name.endswith("k1") for name in names}) > 1:
            raise ValueError(
                f"{error}. It is one number for {', '.join(names)}: k1 has limits of a ratio, the others one "
                "in nats. Write one for each, separated by commas"
            ) from None
        raise


def _rejection(name: str, limit: str) -> Rejection:
    lower, separator, upper = limit.rpartition("_")
    of_ratio, where = name.endswith("k1"), f"rollout_rs_threshold {limit!r} of {name}"
    if separator and not of_ratio:
        raise ValueError(f"rollout_rs_threshold {limit!r}: {name} has an upper limit alone, a number")
    high = _positive(upper, where)
    if not of_ratio:
        return Rejection(name, -math.inf, high)
    low = _positive(lower, where) if separator else 1 / high
    if low > high:
        raise ValueError(
            f"{where}: nothing lies between {low:g} and {high:g}. A range is text: "
            "put it in quotes, or YAML takes 0.5_2 for the number 0.52"
        )
    if not 0 < low < 1 < high:
        raise ValueError(
            f"{where}: limits of the ratio lie on both sides of 1, where sampler and "
            f"trainer agree, and the lower one above 0; here they are {low:g} and {high:g}. Write "
            '"0.5_2.0", with the quotes'
        )
    return Rejection(name, math.log(low), math.log(high))


def _positive(number: str, where: str) -> float:
    try:
        value = math.nan if "_" in number else float(number)  # Python's own numbers may have underscores
    except ValueError:
        value = math.nan
    if not value > 0:
        raise ValueError(f"{where}: write a number above 0, or for a k1 option LOWER_UPPER, such as 0.5_2.0")
    return value
