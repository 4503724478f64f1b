"""The study's figure as data: a row of panels per setting of updates, a line with its band over the fresh seeds per method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmpo_vl.report.curves import Metrics, points
from gmpo_vl.study.file import Study
from gmpo_vl.study.outcomes import Outcome


@dataclass(frozen=True)
class Band:
    """Mean over seeds at every step that all of them measured (geometric on a logarithmic axis), smallest and largest."""

    name: str
    method: int
    steps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Panel:
    title: str
    note: str
    bands: list[Band]
    log: bool = False
    percent: bool = False


def panels(study: Study, outcomes: Sequence[Outcome]) -> dict[str, list[Panel]]:
    """{setting of updates: its panels}, of the fresh runs that finished; what no run measured has no panel."""
    wanted = [
        ("Validation", f"{study.metric}.", {study.metric: ""}, False),
        ("Entropy", "Of the next token's distribution, nats.", {"actor/entropy": ""}, False),
        ("KL to the start", "Per token, on the start's own answers.", {"actor/kl_to_start": ""}, False),
        ("Gradient norm", "Before clipping, mean over a step's updates.", {"actor/grad_norm": ""}, True),
        (
            "Ratio range",
            "Largest and smallest token-level ratio of a step, before clipping.",
            {"actor/ratio_max": " max", "actor/ratio_min": " min"},
            True,
        ),
    ]
    found = {}
    for updates in study.updates:
        row = []
        for title, note, metrics, log in wanted:
            bands = [
                band
                for i, method in enumerate(study.methods)
                for metric, suffix in metrics.items()
                if (band := _band(method + suffix, i, _runs(outcomes, method, updates), metric, log))
            ]
            percent = title == "Validation" and study.metric == "val/accuracy"
            if bands:
                row.append(Panel(title, note, bands, log, percent))
        if row:
            found[updates] = row
    return found


def _runs(outcomes: Sequence[Outcome], method: str, updates: str) -> list[Metrics]:
    return [
        o.metrics
        for o in outcomes
        if o.run.phase == "final" and o.run.cell == (method, updates) and o.state == "finished"
    ]


def _band(name: str, method: int, runs: Sequence[Metrics], metric: str, log: bool) -> Band | None:
    values = [dict(points(metrics, metric)) for metrics in runs]
    steps = sorted(set.intersection(*(set(v) for v in values))) if values else []
    if not steps:
        return None
    values_SN = np.array([[v[step] for step in steps] for v in values])
    if log and (values_SN > 0).all():
        mean = np.exp(np.log(values_SN).mean(axis=0))
    else:
        mean = values_SN.mean(axis=0)
    low, high = values_SN.min(axis=0), values_SN.max(axis=0)
    return Band(name, method, [int(s) for s in steps], mean.tolist(), low.tolist(), high.tolist())
