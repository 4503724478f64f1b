"""The study's figure as a PNG, for papers and READMEs; the page draws the same bands itself."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from PIL import Image

from gmpo_vl.report.charts import log_ticks, tick_label
from gmpo_vl.runs import StudyFolder
from gmpo_vl.storage.files import write_bytes
from gmpo_vl.study.bands import Band, Panel, panels
from gmpo_vl.study.file import Study
from gmpo_vl.study.outcomes import Outcome

COLOURS = ("#2a62b8", "#d9730d", "#17856a", "#a0429a", "#8a6a1f", "#5a6472")  # page.css's


def write_figure(study: Study, folder: StudyFolder, outcomes: Sequence[Outcome]) -> None:
    """Write figure.png of the fresh runs that finished; nothing where none did."""
    rows = panels(study, outcomes)
    if rows:
        write_bytes(folder.figure_file, draw(rows))


def draw(rows: Mapping[str, Sequence[Panel]]) -> bytes:
    """A row per setting of updates, a column per panel."""
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
            _panel(axis, row[j])
            axis.set_title(row[j].title if i == 0 else "", fontsize=10)
            axis.set_xlabel("step" if i == len(rows) - 1 else "", fontsize=8)
            axis.set_ylabel(updates if j == 0 else "", fontsize=10)
    first = next(iter(rows.values()))[0]
    handles = axes[0][0].get_lines()
    figure.legend(
        handles, [band.name for band in first.bands], loc="outside lower center", ncols=6, frameon=False
    )
    drawn, out = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(64).save(out, "PNG", optimize=True)  # a fifth of the bytes
    return out.getvalue()


def _panel(axis, panel: Panel) -> None:
    for band in panel.bands:
        _line(axis, band)
    if panel.log and all(low > 0 for band in panel.bands for low in band.low):
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        axis.set_yticks(log_ticks(low, high), minor=False)
        axis.set_yticks([], minor=True)
        axis.yaxis.set_major_formatter(lambda value, _: tick_label(value, ""))
    if panel.percent:
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25, linewidth=0.5)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _line(axis, band: Band) -> None:
    colour = COLOURS[band.method % len(COLOURS)]
    axis.plot(band.steps, band.mean, color=colour, linewidth=1.3)
    axis.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.16, linewidth=0)
