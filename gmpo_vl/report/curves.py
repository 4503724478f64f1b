"""Which of a run's metrics are drawn: the paper's figures, and what tells a healthy run from a sick one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from gmpo_vl.report.charts import Chart, Point, Series

Metrics = Sequence[dict[str, Any]]

LARGEST = 1e300  # beyond it an axis has no ticks that are numbers
PHASES = ("generate", "log_probs", "update", "validate", "look")


class Drawn(NamedTuple):
    """A chart of a run. lines: {metric: name of its line}."""

    title: str
    note: str
    lines: dict[str, str]
    unit: Literal["", "%", "s"] = ""
    stacked: bool = False


CHARTS = (
    Drawn(
        "Games won",
        "Share of the episodes that were played, of games that say so: in training, and in validation.",
        {"episode/won": "training", "val/episode/won": "validation"},
        unit="%",
    ),
    Drawn(
        "How episodes ended otherwise",
        "Share of a step's episodes: cut at the last turn, prompt too long, a game that broke or was late.",
        {
            "episode/cut": "cut",
            "episode/too_long": "prompt too long",
            "episode/broken": "broken",
            "episode/late": "late",
        },
        unit="%",
    ),
    Drawn(
        "Turns",
        "Mean over the episodes that were played.",
        {"episode/turns": "training", "val/episode/turns": "validation"},
    ),
    Drawn(
        "Valid answers",
        "Share of turns, of games that say so.",
        {"episode/valid": "training", "val/episode/valid": "validation"},
        unit="%",
    ),
    Drawn(
        "Entropy",
        "Of the policy's distribution over the next token, mean over tokens, in nats.",
        {"actor/entropy": "entropy"},
    ),
    Drawn(
        "Gradient norm",
        "Before clipping: mean over the step's updates, and the largest.",
        {"actor/grad_norm": "mean", "actor/grad_norm_max": "max"},
    ),
    Drawn(
        "Noise of the gradient",
        "An update's variance, estimated from two halves of its groups, and its squared length without it.",
        {"actor/grad_variance": "variance", "actor/grad_signal": "squared length"},
    ),
    Drawn(
        "KL divergence",
        "Per token, estimated: to the policy that sampled, to the start, to the reference.",
        {
            "actor/kl_to_old": "to the sampling policy",
            "actor/kl_to_start": "to the start",
            "actor/kl_loss": "to the reference",
        },
    ),
    Drawn(
        "Clipped tokens",
        "Share of tokens outside the clip, by the side of the ratio and the sign of the advantage.",
        {
            "actor/clip_fraction_high_pos": "above, A > 0",
            "actor/clip_fraction_low_neg": "below, A < 0",
            "actor/clip_fraction_high_neg": "above, A < 0",
            "actor/clip_fraction_low_pos": "below, A > 0",
        },
        unit="%",
    ),
    Drawn(
        "Deviation over the batch",
        "Standard deviation over a step's responses, by which its advantages were divided.",
        {"advantage/batch_std": "batch std"},
    ),
    Drawn(
        "PAPO: KL to the masked picture",
        "Per token, estimated, in nats: from answers to the picture to those to the masked one.",
        {"actor/papo_kl": "KL per token"},
    ),
    Drawn(
        "PAPO: entropy",
        "Over the next token, mean over tokens in the updates, in nats, after either picture.",
        {"actor/papo_entropy_masked": "masked picture", "actor/papo_entropy": "own picture"},
    ),
    Drawn(
        "Response length",
        "Tokens.",
        {"response_length/max": "longest", "response_length/mean": "mean", "response_length/min": "shortest"},
    ),
    Drawn(
        "Lost rollouts",
        "Responses cut at the limit or without an answer, answers that timed out, "
        "groups whose rewards are all equal.",
        {
            "group/zero_variance": "groups without a signal",
            "rollout/truncated": "cut",
            "verify/no_answer": "no answer",
            "verify/timeout": "verifier timed out",
        },
        unit="%",
    ),
    Drawn(
        "Sampler against trainer",
        "KL between the distribution that sampled and the one that is trained: 0 where both agree.",
        {"rollout/mismatch_kl": "KL per token"},
    ),
    Drawn(
        "Weights of the correction",
        "Of tokens or responses that the rollout correction does not reject, as they are used: 1 where both "
        "distributions agree.",
        {"rollout/is_weight_mean": "mean", "rollout/is_weight_max": "max"},
    ),
    Drawn(
        "Effective sample size",
        "How many equal weights those of the rollout correction are worth, as a share: (Σw)² / (N Σw²).",
        {"rollout/is_eff_sample_size": "effective sample size"},
        unit="%",
    ),
    Drawn(
        "Rejected by the correction",
        "Share of a step's response tokens, and of its responses without a token left.",
        {"rollout/rejected_tokens": "tokens", "rollout/rejected_sequences": "responses"},
        unit="%",
    ),
    Drawn(
        "Load of the experts",
        "Largest and smallest share of a layer's tokens that one expert got, times the number of experts: "
        "1 is even.",
        {"router/load_max": "most used", "router/load_min": "least used"},
    ),
    Drawn(
        "Entropy of the routers",
        "Of a token's distribution over experts, mean over tokens and layers, in nats.",
        {"router/entropy": "entropy"},
    ),
    Drawn("Learning rate", "Of each step.", {"actor/lr": "learning rate"}),
    Drawn(
        "Time per step",
        "Seconds, by phase.",
        {f"time/{phase}": phase.replace("_", "-") for phase in PHASES},
        unit="s",
        stacked=True,
    ),
    Drawn(
        "Memory",
        "GiB at the end of a step.",
        {"memory/host_rss": "host", "memory/device_peak": "device, peak"},
    ),
)


def curves(metrics: Metrics, ratio_limits: tuple[float, float] | None = None) -> list[Chart]:
    """Charts of the metrics that the run has. ratio_limits: where the objective clips ratios (low, high)."""
    ratio = Chart(
        "Importance ratio",
        "Largest and smallest token-level ratio of the whole step, before clipping (logarithmic).",
        _lines(metrics, {"actor/ratio_max": "max", "actor/ratio_min": "min"}),
        log=True,
        smooth=False,
        from_zero=False,
        limits=[(limit, f"clip {limit:.3g}") for limit in ratio_limits or ()],
    )
    others = [
        Chart(d.title, d.note, _lines(metrics, d.lines), unit=d.unit, stacked=d.stacked) for d in CHARTS
    ]
    rewards = [chart for shares, rows in by_kind(metrics) for chart in _of_reward(shares, rows)]
    return [chart for chart in [*rewards, ratio, *others] if chart.series]


def _of_reward(shares: bool, metrics: Metrics) -> list[Chart]:
    """Of rows of one kind."""
    parts = sorted({key for row in metrics for key in row if key.startswith("reward/")} - {"reward/accuracy"})
    validated = _lines(metrics, {validation_key(metrics): "validation"})
    validation = [replace(series, dots=True) for series in validated]
    accuracy = Chart(
        "Accuracy",
        "Share of right answers, or won episodes: training rollouts of each step, and the validation split.",
        _lines(metrics, {"reward/accuracy": "training rollouts"}) + validation,
        unit="%",
    )
    if not shares:
        accuracy = Chart("Validation", "Mean score of the validation split by the reward.", validation)
    reward = Chart(
        "Reward",
        "Mean over the rollouts of a step, and its parts.",
        _lines(metrics, {key: key.removeprefix("reward/") for key in parts}),
    )
    return [accuracy, reward]


def validation_key(metrics: Metrics) -> str:
    """What validations are shown by. Games that do not say `won` have a score alone."""
    return "val/accuracy" if points(metrics, "val/accuracy") else "val/overall"


def counts_right(row: Mapping[str, Any]) -> bool | None:
    """Whether what a row calls accuracy is a share of right answers. Of a reward without that part it is the
    whole score. None: the row has no training step.
    """
    return True if "reward/accuracy" in row else False if "reward/overall" in row else None


def by_kind(metrics: Metrics) -> list[tuple[bool, Metrics]]:
    """(whether they count right answers, the rows), of each kind: a run may go on with another reward.

    A row without a training step, as of the start, is of the next one's kind, or else of the last one's.
    """
    kind = next((found for row in reversed(metrics) if (found := counts_right(row)) is not None), True)
    kinds = []
    for row in reversed(metrics):
        found = counts_right(row)
        kind = kind if found is None else found
        kinds.append(kind)
    rows_of = {
        kind: [row for row, of in zip(metrics, reversed(kinds)) if of == kind] for kind in (True, False)
    }
    return [(kind, rows) for kind, rows in rows_of.items() if rows]


def points(metrics: Metrics, key: str) -> list[Point]:
    """(step, value) where the metric was written and finite."""
    return [(row["step"], row[key]) for row in metrics if row.get(key) is not None]


def _lines(metrics: Metrics, names: dict[str, str]) -> list[Series]:
    found = [
        Series(name, [(x, y) for x, y in points(metrics, key) if abs(y) < LARGEST])
        for key, name in names.items()
    ]
    return [series for series in found if series.points]
