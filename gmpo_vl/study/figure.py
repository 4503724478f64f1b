"""The study's figure: a row of charts per setting of updates, a line with its band per method.

The page draws these charts itself; the PNG is for papers and READMEs.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gmpo_vl.report.charts import Chart, Series, log_ticks, tick_label
from gmpo_vl.report.curves import Metrics, points
from gmpo_vl.runs import StudyFolder
from gmpo_vl.storage.files import write_bytes
from gmpo_vl.study.declaration import Study
from gmpo_vl.study.outcomes import Outcome, scores_are_shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2a62b8", "#d9730d", "#17856a", "#a0429a", "#8a6a1f", "#5a6472")  # page.css's


def study_charts(study: Study, outcomes: Sequence[Outcome]) -> dict[str, list[Chart]]:
    """{setting of updates: its charts}, of the fresh runs that finished; none of what no run measured."""
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
        ("Gradient variance", "Of an update, mean over a step's.", {"actor/grad_variance": ""}, True),
        (
            "Gradient signal",
            "The gradient's square without its variance. One run's is below 0 by chance.",
            {"actor/grad_signal": ""},
            False,
        ),
        (
            "Sequence ratio",
            "Largest and smallest of a step, with the 1/|o| power.",
            {"actor/seq_ratio_max": " max", "actor/seq_ratio_min": " min"},
            True,
        ),
        (
            "Sequence ratio, no power",
            "The product of a sequence's ratios, largest and smallest of a step.",
            {"actor/seq_ratio_nonorm_max": " max", "actor/seq_ratio_nonorm_min": " min"},
            True,
        ),
    ]
    fresh = [o for o in outcomes if o.run.phase == "final" and o.state == "finished"]
    found = {}
    for updates in study.updates:
        row = []
        for title, note, metrics, log in wanted:
            lines = [
                line
                for i, method in enumerate(study.methods)
                for runs in [[o.metrics for o in fresh if o.run.cell == (method, updates)]]
                for metric, suffix in metrics.items()
                if (line := _line(method + suffix, i % len(COLOURS), runs, metric, log))
            ]
            percent = title == "Validation" and scores_are_shares(study, outcomes)
            unit = "%" if percent else ""
            if lines:
                row.append(Chart(title, note, lines, unit, log, from_zero=not log, smooth=False))
        if row:
            found[updates] = row
    return found


def _line(name: str, colour: int, runs: Sequence[Metrics], metric: str, log: bool) -> Series | None:
    """Mean, smallest and largest over seeds, at every step that all of them measured.

    The mean is geometric on a logarithmic axis.
    """
    values = [dict(points(metrics, metric)) for metrics in runs]
    steps = sorted(set.intersection(*map(set, values))) if values else []
    if not steps:
        return None
    values_SN = np.array([[v[step] for step in steps] for v in values])
    if log and (values_SN > 0).all():
        mean_N = np.exp(np.log(values_SN).mean(axis=0))
    else:
        mean_N = values_SN.mean(axis=0)
    band = list(zip(steps, values_SN.min(axis=0).tolist(), values_SN.max(axis=0).tolist()))
    return Series(name, list(zip(steps, mean_N.tolist())), band=band, colour=colour)


def write_figure(study: Study, folder: StudyFolder, outcomes: Sequence[Outcome]) -> None:
    """Write figure.png of the fresh runs that finished; nothing where none did."""
    rows = study_charts(study, outcomes)
    if rows:
        write_bytes(folder.figure_file, draw(rows))


def draw(rows: Mapping[str, Sequence[Chart]]) -> bytes:
    """A PNG with a row per setting of updates, a column per chart."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows.values())
    figure = Figure(figsize=(2.9 * columns, 2.3 * len(rows) + 0.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for i, (updates, row) in enumerate(rows.items()):
        for j, axis in enumerate(axes[i]):
            if j >= len(row):
                axis.set_axis_off()
                continue
            _draw_chart(axis, row[j])
            axis.set_title(row[j].title if i == 0 else "", fontsize=10)
            axis.set_xlabel("step" if i == len(rows) - 1 else "", fontsize=8)
            axis.set_ylabel(updates if j == 0 else "", fontsize=10)
    names = [line.name for line in next(iter(rows.values()))[0].series]
    figure.legend(axes[0][0].get_lines(), names, loc="outside lower center", ncols=6, frameon=False)
    drawn, out = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(64).save(out, "PNG", optimize=True)  # a fifth of the bytes
    return out.getvalue()


def _draw_chart(axis: Axes, chart: Chart) -> None:
    for line in chart.series:
        colour = COLOURS[line.colour or 0]
        steps, lows, highs = zip(*line.band)
        axis.plot(steps, [mean for _, mean in line.points], color=colour, linewidth=1.3)
        axis.fill_between(steps, lows, highs, color=colour, alpha=0.16, linewidth=0)
    if chart.log and all(low > 0 for line in chart.series for _, low, _ in line.band):
        axis.set_yscale("log")
        axis.set_yticks(log_ticks(*axis.get_ylim()), minor=False)
        axis.set_yticks([], minor=True)
        axis.yaxis.set_major_formatter(lambda value, _: tick_label(value, ""))
    if chart.unit == "%":
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axis.xaxis.get_major_locator().set_params(integer=True)  # pyright: ignore[reportCallIssue]
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25, linewidth=0.5)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
