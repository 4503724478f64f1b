"""The numbers that a study takes of each training run, beside its score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import stdev
from typing import Literal

from gmpo_vl.report.curves import Metrics, points

SMALLEST = 1.4e-45  # of float32: a ratio below it is written as 0
END = 5  # steps: "at the end" is the mean over the last so many


@dataclass(frozen=True)
class Quantity:
    """One number of a run: `how` of a metric's values over the steps, as a natural logarithm where `log`.

    spread: the standard deviation over steps, divided by the mean.
    """

    key: str
    title: str
    metric: str
    how: Literal["end", "last", "mean", "spread", "largest", "smallest"]
    log: bool = False

    def of(self, metrics: Metrics) -> float | None:
        """None where the run did not measure it, or once measured what was not finite."""
        values = [y for x, y in points(metrics, self.metric) if x > 0]
        if not values or any(row.get(self.metric, 0.0) is None for row in metrics):
            return None
        mean = sum(values) / len(values)
        if self.how == "spread":
            return stdev(values) / mean if len(values) > 1 and mean > 0 else None
        found = {
            "end": sum(values[-END:]) / len(values[-END:]),
            "last": values[-1],
            "mean": mean,
            "largest": max(values),
            "smallest": min(values),
        }[self.how]
        return math.log(max(found, SMALLEST)) if self.log else found


def _extreme(key: str, title: str, metric: str) -> tuple[Quantity, Quantity]:
    """The largest and the smallest ratio of a whole run, from every step's."""
    return (
        Quantity(f"ln_{key}_max", f"ln of the run's largest {title}", f"{metric}_max", "largest", log=True),
        Quantity(f"ln_{key}_min", f"ln of the run's smallest {title}", f"{metric}_min", "smallest", log=True),
    )


QUANTITIES = (
    Quantity("entropy", f"Entropy, last {END} steps (nats)", "actor/entropy", "end"),
    Quantity("kl_to_start", "KL to the start, last (nats per token)", "actor/kl_to_start", "last"),
    Quantity("grad_norm", "Gradient norm, mean over steps", "actor/grad_norm", "mean"),
    Quantity("grad_norm_spread", "Gradient norm, deviation over steps / mean", "actor/grad_norm", "spread"),
    Quantity("grad_norm_max", "Gradient norm, largest of the run", "actor/grad_norm_max", "largest"),
    # Of the two parts of actor/grad_noise: one run's ratio is of a signal that may be 0 by chance.
    Quantity("ln_grad_variance", "ln of the gradient's variance", "actor/grad_variance", "mean", log=True),
    Quantity("grad_signal", "Gradient squared, its variance taken off", "actor/grad_signal", "mean"),
    *_extreme("ratio", "ratio", "actor/ratio"),
    *_extreme("seq_ratio", "sequence ratio, 1/|o| power", "actor/seq_ratio"),
    *_extreme("seq_ratio_nonorm", "sequence ratio, no power", "actor/seq_ratio_nonorm"),
    Quantity("accuracy_gap", "Accuracy with right − swapped pictures, last", "look/accuracy_gap", "last"),
)

# What must be switched on for metrics that begin so.
NEEDED_KEYS = {
    "actor/kl_to_start": "trainer.kl_to_start_freq",
    "actor/grad_variance": "trainer.grad_noise_freq",
    "actor/grad_signal": "trainer.grad_noise_freq",
    "look/": "trainer.look_freq",
}
