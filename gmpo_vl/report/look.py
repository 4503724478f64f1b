"""From metrics.jsonl alone: does the policy learn to answer without its pictures? And the charts of `look/*`.

The rule (docs/look.md). It holds at a measurement where all of this is so:

1. At this measurement and the one before, the upper end of the accuracy gap's 95% interval is below `SHARE`
   of the accuracy with the right pictures.
2. The training accuracy has risen since the run began: the mean of the last `WINDOW` steps is above that of
   the first, and the 95% interval of their difference is above 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, variance
from typing import Any

from gmpo_vl.figures import decimal, percent
from gmpo_vl.report.charts import Chart, Series
from gmpo_vl.report.curves import Metrics, by_kind, points

SHARE = 0.25
WINDOW, FEWEST = 10, 5  # steps at either end; with fewer than twice `FEWEST` nothing is said to rise
Z95 = 1.96  # standard errors to either end of a 95% interval, of the normal distribution


@dataclass(frozen=True)
class BlindWarning:
    """The rule begins to hold at this step."""

    step: int
    text: str


@dataclass(frozen=True)
class _Look:
    """A measurement: shares of right answers with the right pictures, and what other pictures take away."""

    step: int
    accuracy: float
    gap: float
    half: float  # of the gap's 95% interval

    @property
    def blind(self) -> bool:
        return self.gap + self.half < SHARE * self.accuracy


def blind_warnings(metrics: Metrics) -> list[BlindWarning]:
    """One for each time that the rule begins to hold. metrics: lines of metrics.jsonl, in order.

    None where a reward without the part `accuracy` has scores that are no shares of 1: the rule has no scale.
    """
    found = [warning for shares, rows in by_kind(metrics) for warning in _blind_warnings(shares, rows)]
    return sorted(found, key=lambda warning: warning.step)


def _blind_warnings(shares: bool, metrics: Metrics) -> list[BlindWarning]:
    """Of rows of one kind: a rise from one unit to another is none."""
    looks = _looks(metrics)
    if not all(0 <= look.accuracy <= 1 for look in looks):
        return []
    rewards = points(metrics, "reward/accuracy" if shares else "reward/overall")
    found, held = [], False
    for before, now in pairwise(looks):
        rise = risen([y for x, y in rewards if 0 < x <= now.step]) if before.blind and now.blind else None
        if rise is not None and not held:
            found.append(BlindWarning(now.step, _in_words(before, now, rise, shares)))
        held = rise is not None
    return found


def risen(values: list[float]) -> tuple[float, float] | None:
    """(first mean, last mean) of a figure over a run's steps, where it surely rose; None otherwise.

    The means are of `WINDOW` steps, in short runs of half of all. Their difference must be above 0 by more
    than 1.96 standard errors, from the variances within either window (Welch). A trend within a window makes
    them larger, and so the rule more careful.
    """
    size = min(WINDOW, len(values) // 2)
    if size < FEWEST:
        return None
    first, last = values[:size], values[-size:]
    error = ((variance(first) + variance(last)) / size) ** 0.5
    means = fmean(first), fmean(last)
    return means if means[1] - means[0] > Z95 * error else None


def look_charts(metrics: Metrics) -> list[Chart]:
    """The accuracy gap, and the gains in log-prob, with their intervals."""
    gains = {"look/gain_swapped": "over another's picture", "look/gain_blank": "over grey"}
    gain = Chart(
        "Log-prob that the picture adds",
        "To answers given with the right picture, in nats per answer (95% interval). No picture in training "
        "is grey.",
        _with_interval(metrics, gains),
    )
    accuracies = [_accuracy_chart(shares, rows) for shares, rows in by_kind(metrics)]
    return [chart for chart in (*accuracies, gain) if chart.series]


def _accuracy_chart(shares: bool, metrics: Metrics) -> Chart:
    """Of rows of one kind."""
    measured = "Right answers" if shares else "The reward's mean score"
    return Chart(
        f"{'Accuracy' if shares else 'Score'} that needs the picture",
        f"{measured} with the right picture minus {'those' if shares else 'that'} with another question's "
        "(95% interval), and the two themselves.",
        [
            *_with_interval(metrics, {"look/accuracy_gap": "gap"}),
            *(
                Series(name, points(metrics, key), dots=True)
                for key, name in (
                    ("look/accuracy", "right picture"),
                    ("look/accuracy_swapped", "another's picture"),
                )
                if points(metrics, key)
            ),
        ],
        unit="%" if shares else "",
    )


def half_width(row: Mapping[str, Any], key: str = "look/accuracy_gap") -> float | None:
    """From the middle to either end of a figure's 95% interval: 1.96 standard errors.

    The accuracy gap's is at least the share of prompts of another kind that would not show up in 2.5% of
    samples of P (Clopper and Pearson 1934): where all P prompts have the same gap, its standard error is 0.
    A prompt of another kind differs by 1 in a share of right answers. How much in a score is not known, and
    means near 0 do not tell: it is taken to be the larger mean of the two pictures', and 1 at least.
    """
    error, prompts = row.get(f"{key}_se"), row.get("look/prompts")
    if error is None:
        return None
    least = 1 - 0.025 ** (1 / prompts) if prompts and key == "look/accuracy_gap" else 0.0
    mean = max(abs(row.get(f"look/{name}") or 0.0) for name in ("accuracy", "accuracy_swapped"))
    return max(Z95 * error, least * max(1.0, mean))


def _looks(metrics: Metrics) -> list[_Look]:
    found = []
    for row in metrics:
        accuracy, gap = row.get("look/accuracy"), row.get("look/accuracy_gap")
        half = half_width(row)
        if accuracy is not None and gap is not None and half is not None:
            found.append(_Look(row["step"], accuracy, gap, half))
    return found


def _with_interval(metrics: Metrics, names: dict[str, str]) -> list[Series]:
    found = []
    for key, name in names.items():
        measured = [(row["step"], row.get(key), half_width(row, key)) for row in metrics]
        known = [(x, y, half) for x, y, half in measured if y is not None and half is not None]
        line, band = [(x, y) for x, y, _ in known], [(x, y - half, y + half) for x, y, half in known]
        found += [Series(name, line, dots=True, band=band)] if line else []
    return found


def _in_words(before: _Look, now: _Look, rise: tuple[float, float], shares: bool) -> str:
    def said(value: float) -> str:
        return percent(value) if shares else decimal(value)

    seen = " and ".join(
        f"{said(look.gap)} ± {said(look.half)} of {said(look.accuracy)} at step {look.step}"
        for look in (before, now)
    )
    name, unit = ("accuracy", "right answers, ") if shares else ("score", "the reward's overall, ")
    return (
        f"the policy learns to answer without the picture: its {name} in training rose from {said(rise[0])} "
        f"to {said(rise[1])}, but another question's picture takes away only {seen} ({unit}95% "
        "intervals). Look for what in the questions' text gives the answers away"
    )
