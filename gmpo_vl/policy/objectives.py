"""The paper's objectives and their rivals: each formula beside its name, its options and what is known of it.

An objective is J_i = A_i R_i: the importance ratios rho_t = pi_theta / pi_old of one response become one
number R_i > 0, and the advantage stays outside every power. A formula here returns log R_i from

    log_ratio_BT   log rho_t, float64, 0 at masked positions
    mask_BT        bool, True where a token counts; |o_i| of them in row i
    clip           log-ratios -> the same with the objective's limits in force (`limiter`)

and its own options. (CISPO's J_i is no multiple of a ratio, but it has the gradient of one: `Objective`.) An
objective is called as a user's is (policy/own.py). Options are keys of `worker.actor`: `log_clip_low/high`
bound the ratio in LOG space, to [e^-low, e^high]; `clip_ratio_low/high` are offsets in RATIO space, to
[1 - low, 1 + high]; `tau_positive/negative` are SAPO's temperatures. The configuration reads this table:
importing it loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from gmpo_vl.policy.means import interquartile_shares, lengths, log_mean_exp, log_power_mean, token_mean
from gmpo_vl.storage.names import nearest, nearest_or_all

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Clip = Callable[[Tensor], Tensor]

Clips = Literal["token", "weight", "gate", "sequence_mean", "sequence_sum", "nothing"]

# exp is bounded where its value, or the gradient that goes back in the dtype of the log-probs, would
# overflow. Beyond the bound the size of the gradient stays and its direction is kept. A sequence needs a mean
# ratio of 4.8e8 to meet it in float32 and bfloat16, 2,981 in float16.
_LARGEST_EXPONENT = {
    "torch.float64": 300.0,
    "torch.float32": 20.0,
    "torch.bfloat16": 20.0,
    "torch.float16": 8.0,
}


@dataclass(frozen=True)
class Objective:
    """One row of the family.

    formula: log R (see above). defaults: every option that it reads, with its value when nothing is written.
    clips: what the limits act on. "token": each ratio, on the side of A's sign. "weight": each token's weight
        in the gradient, on both sides, behind a stop-gradient. "gate": each ratio, smoothly, without a limit.
        "sequence_mean", "sequence_sum": one number of a sequence, as "token". "nothing".
    weight: of a sequence in the mean over the mini-batch: 1 ("sequence") or its number of tokens ("token").
    """

    name: str
    source: str
    formula: Callable[..., Tensor]
    defaults: Mapping[str, float]
    clips: Clips
    weight: Literal["sequence", "token"]

    def __call__(
        self,
        log_probs_BT: Tensor,
        old_log_probs_BT: Tensor,
        mask_BT: Tensor,
        advantages_B: Tensor,
        gradient_dtype: torch.dtype | None = None,
        log_weights_BT: Tensor | None = None,
        **options: float,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """-J_i (B,), for "token" weights the weights too. gradient_dtype: of the model's log-probs.

        log_weights_BT: log w_t of tokens whose sampler was not the old policy, 0 where the mask is 0. R is
        then that of the ratios w_t rho_t, where the clip looks at rho_t alone. A clip of a whole sequence
        looks at a geometric mean or its power, so there w_t enters as its own geometric mean.
        """
        import torch

        resolved = resolve_settings(self.name, options)
        limited = limiter(self.clips, resolved, advantages_B)
        own = {key: value for key, value in resolved.items() if key not in _OF_LIMITS}
        log_ratio_BT = log_probs_BT - old_log_probs_BT
        if log_weights_BT is None:
            log_weights_BT = torch.zeros_like(log_ratio_BT)
        limits_tokens = self.clips in ("token", "weight", "gate")

        def clip(log_ratio: Tensor) -> Tensor:
            return limited(log_ratio) + log_weights_BT if limits_tokens else limited(log_ratio)

        with torch.enable_grad():
            leaf_BT = log_ratio_BT.detach().requires_grad_()
            log_ratio_B = self.formula(leaf_BT, mask_BT, clip, **own)
            if not limits_tokens:
                log_ratio_B = log_ratio_B + token_mean(log_weights_BT, mask_BT)
            (slope_BT,) = torch.autograd.grad(log_ratio_B.sum(), leaf_BT)
        bound = _LARGEST_EXPONENT[str(gradient_dtype or log_probs_BT.dtype)]
        ratio_B = log_ratio_B.detach().clamp(max=bound).exp() * mask_BT.any(-1)
        # d R / d log rho_t = R * d log R / d log rho_t: Eq. 7 for gmpo, Eq. 6 for grpo (without their 1/G).
        token_weights_BT = ratio_B[:, None] * slope_BT.where(mask_BT, 0.0)
        if self.clips == "weight":  # the weights are held fixed: sum_t sg(weight_t) log pi_t
            objective_B = (token_weights_BT * log_probs_BT).sum(-1)
        else:  # the value is R; the gradient that reaches the log-probs is the token weights, bounded as R is
            step_BT = token_weights_BT * (log_ratio_BT - log_ratio_BT.detach())
            objective_B = ratio_B + step_BT.sum(-1)
        loss_B = -advantages_B * objective_B
        return (loss_B, mask_BT.sum(-1).double()) if self.weight == "token" else loss_B


OBJECTIVES: dict[str, Objective] = {}


def is_own(loss_type: str) -> bool:
    """Does it name a user's objective, by file or import path (policy/own.py)?"""
    return ":" in loss_type or loss_type.endswith(".py")


_LOG_CLIP = {"log_clip_low": 0.4, "log_clip_high": 0.4}
_RATIO_CLIP = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.2}
_TAUS = ("tau_positive", "tau_negative")
_LEAST_TAU = 1e-3  # R stays below 4/tau, and float16 allows 2,981 (_LARGEST_EXPONENT)
_MOST_TAU = 100.0  # the gate's slope is then 1/5,500 at a ratio of 1.1
_OF_LIMITS = (*_LOG_CLIP, *_RATIO_CLIP, *_TAUS)  # options that `limiter` reads


def _objective(
    source: str,
    defaults: Mapping[str, float],
    clips: Clips = "token",
    weight: Literal["sequence", "token"] = "sequence",
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Enters a formula into the table, by its name."""

    def enter(formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = formula.__name__
        OBJECTIVES[name] = Objective(name, source, formula, defaults, clips, weight)
        return formula

    return enter


@_objective("Eq. 5; Table 3, row 5", _LOG_CLIP)
def gmpo(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """R = (prod_t rho'_t)^(1/|o|), rho' = rho clipped to [e^low, e^high] on the side that A's sign bounds.

    min[rho A, clip(rho) A] is min(rho, e^high) A for A > 0 and max(rho, e^low) A for A < 0: the RAW log-ratio
    is clamped. (Algorithm 1 clamps sgn(A) log rho, which is the same only where low = -high.)
    """
    return token_mean(clip(log_ratio_BT), mask_BT)


@_objective("Eq. 1; Table 3, row 1", _RATIO_CLIP)
def grpo(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """R = 1/|o| sum_t rho'_t, rho' clipped as in `gmpo`; Eq. 1's KL term is a term of its own."""
    return log_power_mean(clip(log_ratio_BT), mask_BT, 1.0)


@_objective("Eq. 3; Table 3, row 2", {}, clips="nothing")
def gmpo_noclip(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """`gmpo` without a clip."""
    return token_mean(log_ratio_BT, mask_BT)


@_objective("Table 3, row 3", _LOG_CLIP, clips="sequence_sum")
def gmpo_seqclip(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """The product of all ratios is clipped, then the 1/|o|-th power is taken."""
    return clip(log_ratio_BT.sum(-1, keepdim=True)).squeeze(-1) / lengths(mask_BT)


@_objective("Table 3, row 4", _LOG_CLIP)
def gmpo_nonorm(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """`gmpo` without the power 1/|o|."""
    return clip(log_ratio_BT).sum(-1)


@_objective("Table 5, harmonic mean", _LOG_CLIP)
def hmpo(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """The harmonic mean of the clipped ratios."""
    return log_power_mean(clip(log_ratio_BT), mask_BT, -1.0)


@_objective("Table 5, interquartile mean (Definition 2)", _LOG_CLIP)
def iqm(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """The mean of the clipped ratios without the floor(|o|/4) smallest and as many of the largest."""
    clipped_BT = clip(log_ratio_BT)
    return log_mean_exp(clipped_BT, interquartile_shares(clipped_BT.detach(), mask_BT))


@_objective("Definition 1", {**_LOG_CLIP, "mean_power": 0.0})
def power_mean(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip, mean_power: float) -> Tensor:
    """M_p of the clipped ratios; the means of `grpo`, `gmpo` and `hmpo` are p = 1, 0 and -1."""
    return log_power_mean(clip(log_ratio_BT), mask_BT, mean_power)


@_objective("Liu et al., 2025", {**_RATIO_CLIP, "length_constant": 3000})
def dr_grpo(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip, length_constant: float) -> Tensor:
    """The sum of the clipped ratios over a constant length instead of |o|.

    length_constant: tokens; the cap of the response length (the paper's, and Dr. GRPO's, is 3,000).
    """
    return grpo(log_ratio_BT, mask_BT, clip) + (lengths(mask_BT) / length_constant).log()


@_objective("Yu et al., 2025", {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28}, weight="token")
def dapo(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """`grpo`'s mean of a sequence; the token mean over the mini-batch is a matter of weight."""
    return grpo(log_ratio_BT, mask_BT, clip)


@_objective("Zheng et al., 2025", {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4}, clips="sequence_mean")
def gspo(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """The clip looks at the geometric mean of all ratios."""
    return clip(token_mean(log_ratio_BT, mask_BT)[:, None]).squeeze(-1)


@_objective(
    "MiniMax-M1, arXiv 2506.13585",
    {"clip_ratio_low": 1.0, "clip_ratio_high": 4.0},
    clips="weight",
    weight="token",
)
def cispo(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """J = A/|o| sum_t sg(clip(rho_t, 1 - low, 1 + high)) log pi_t; sg is a stop-gradient.

    Returned is log R of the mean R of the clipped ratios, which has the same gradient. The clip is the same
    for both signs of A, and no token loses its gradient. A sequence weighs its length, as in `dapo`.

    Left open by the report: it switches the lower limit off and gives no number for the upper one. The
    defaults are ScaleRL's (arXiv 2510.13786), which TRL recommends and SkyRL defaults to: ratios from 0 to 5.
    verl and EasyR1 take their PPO clips here, 0.8 to 1.2 and 0.8 to 1.3. The report's mean is over the tokens
    of one question's group; here, as in verl, EasyR1, TRL and ms-swift, it is over those of the mini-batch.
    """
    return log_power_mean(clip(log_ratio_BT), mask_BT, 1.0)


@_objective("Gao et al., 2025, arXiv 2511.20347", {"tau_positive": 1.0, "tau_negative": 1.05}, clips="gate")
def sapo(log_ratio_BT: Tensor, mask_BT: Tensor, clip: Clip) -> Tensor:
    """R = 1/|o| sum_t f(rho_t), f(rho) = 4/tau sigmoid(tau (rho - 1)), tau by the sign of A.

    f' = sech(tau (rho - 1) / 2)^2 is 1 at rho = 1, where the gradient is `grpo`'s, and less on either side. R
    is 2/tau there, so its value compares with no other objective's. The mean over sequences is the paper's,
    verl's, TRL's and ms-swift's; EasyR1 averages by its `loss_avg_mode`. Which tau belongs to A = 0 differs
    between them, and changes nothing: such a sequence has no gradient.
    """
    return log_power_mean(clip(log_ratio_BT), mask_BT, 1.0)


def limiter(clips: Clips, settings: Mapping[str, float], advantages_B: Tensor) -> Clip:
    """Log-ratios, (B, T) or (B, 1) -> log of what the objective's limits make of the ratios."""
    positive_B1 = (advantages_B > 0)[:, None]
    low, high = log_clip_limits(settings)
    if clips == "weight":
        # The limits bound the value and let the gradient pass: d e^x / d x is the limited e^x.
        return lambda x: x.detach().clamp(low, high) + (x - x.detach())
    if clips == "gate":
        positive, negative = (settings[key] for key in _TAUS)
        return lambda x: log_gate(x, positive).where(positive_B1, log_gate(x, negative))
    return lambda x: clip_one_sided(x, positive_B1, low, high)


def clip_one_sided(log_ratio: Tensor, positive: Tensor, low: float, high: float) -> Tensor:
    """log of min[rho A, clip(rho, e^low, e^high) A] / A: the upper limit binds for A > 0, the lower one
    otherwise. A ratio at its limit keeps its gradient (of `clamp` it is 1 or 0 there, by version)."""
    from_above = log_ratio.masked_fill(log_ratio > high, high)
    return from_above.where(positive, log_ratio.masked_fill(log_ratio < low, low))


def log_gate(log_ratio: Tensor, tau: float) -> Tensor:
    """log of SAPO's 4/tau sigmoid(tau (rho - 1)). Its gradient is 0 long before rho is e^300."""
    from torch.nn.functional import logsigmoid

    return math.log(4 / tau) + logsigmoid(tau * log_ratio.clamp(max=300.0).expm1())


# Everything that tells some loss, ours or EasyR1's, what to do. A written key of this set must be used by the
# loss.
OBJECTIVE_KEYS: frozenset[str] = frozenset(
    {key for objective in OBJECTIVES.values() for key in objective.defaults}
    | {"clip_ratio_dual", "loss_avg_mode"}
)


def check_settings(loss_type: str, written: Collection[str]) -> None:
    """ValueError with the nearest name when the objective is unknown, or does not use an option that somebody
    wrote.

    written: names of options only. A configuration passes the written keys of `worker.actor` that are in
    `OBJECTIVE_KEYS`; its other keys are not the objective's business.
    """
    if loss_type not in OBJECTIVES:
        raise ValueError(
            f"loss_type: no objective is called {loss_type!r}{nearest_or_all(loss_type, OBJECTIVES)}"
        )
    used = OBJECTIVES[loss_type].defaults
    for key in sorted(set(written) - set(used)):
        takers = sorted(name for name, objective in OBJECTIVES.items() if key in objective.defaults)
        whose = f"; {key} belongs to {', '.join(takers)}" if takers else ""
        # A limit of the log-ratio is none of the ratio: a number does not move from one to the other.
        same_unit = [name for name in used if name.startswith("log_clip") == key.startswith("log_clip")]
        listed = f"; known: {', '.join(sorted(used))}" if used else "; it has no options"
        near = nearest(key, same_unit, cutoff=0.5) or listed
        raise ValueError(f"loss_type {loss_type} does not use {key}{near}{whose}")


def resolve_settings(loss_type: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The objective's defaults overwritten by `settings`; ValueError for names and values it cannot take."""
    check_settings(loss_type, settings.keys())
    resolved = {**OBJECTIVES[loss_type].defaults, **settings}
    for key, value in resolved.items():
        if type(value) is bool or not issubclass(type(value), Real):
            raise ValueError(f"{key} is {value!r:.80}; it is a number")
        if math.isnan(value):
            raise ValueError(f"{key} is NaN")
        if key.startswith(("log_clip", "clip_ratio")) and value < 0:
            raise ValueError(
                f"{key} is {value}: it is the distance from ratio 1 on its side, so it is not negative"
            )
        if key == "length_constant" and not 0 < value < math.inf:
            raise ValueError(f"length_constant is {value}: it is a number of tokens, above 0")
        if key in _TAUS and not _LEAST_TAU <= value <= _MOST_TAU:
            raise ValueError(
                f"{key} is {value}: it is a temperature of {_LEAST_TAU} to {_MOST_TAU:g}; towards 0 the gate "
                "becomes grpo without a clip (clip_ratio_low 1, clip_ratio_high .inf), and above "
                f"{_MOST_TAU:g} it is 0 or 1 nearly everywhere and has no gradient there"
            )
        if key == "mean_power" and math.isinf(value):
            raise ValueError("mean_power is infinite: use a finite power")
        if key == "clip_ratio_low" and value > 1:
            raise ValueError(f"clip_ratio_low is {value}: the ratio's lower limit is 1 - {value}, below zero")
    return resolved


def log_clip_limits(settings: Mapping[str, float]) -> tuple[float, float]:
    """(low, high) limits of the log-ratio, low <= 0 <= high, from either way of writing them; infinite
    without a clip."""
    if "log_clip_low" in settings:
        return -settings["log_clip_low"], settings["log_clip_high"]
    if "clip_ratio_low" in settings:
        offset_low, offset_high = settings["clip_ratio_low"], settings["clip_ratio_high"]
        return (math.log1p(-offset_low) if offset_low < 1 else -math.inf), math.log1p(offset_high)
    return -math.inf, math.inf
