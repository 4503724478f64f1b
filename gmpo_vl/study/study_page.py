"""A study as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmpo_vl.report.charts import show
from gmpo_vl.report.page import render
from gmpo_vl.runs import StudyFolder
from gmpo_vl.storage.files import write_text
from gmpo_vl.study.declaration import Study
from gmpo_vl.study.figure import study_charts
from gmpo_vl.study.grid import config_of, one_run_each
from gmpo_vl.study.outcomes import Outcome, scores_are_shares, scores_by_rate
from gmpo_vl.study.quantities import QUANTITIES

MINUS = "−"


@dataclass(frozen=True)
class Row:
    """A quantity of one setting of updates: (mean, interval) per method, and of the differences."""

    title: str
    cells: list[tuple[str, str]]
    differences: list[tuple[str, str]]


def write_study_page(
    study: Study, folder: StudyFolder, outcomes: Sequence[Outcome], results: Mapping[str, Any]
) -> Path:
    """Write report.html from what there is so far."""
    config = config_of(study, next(iter(one_run_each(study).values())))
    shares = scores_are_shares(study, outcomes)
    html = render(
        "study.html.jinja",
        study=study,
        plan=results["plan"],
        model=str(config.worker.actor.model.model_path),
        data=config.data.train_files,
        steps=config.trainer.max_steps,
        counts=_counts(outcomes, results["plan"]),
        failed=[o for o in outcomes if o.state == "failed"],
        shares=shares,
        tables={updates: table(study, results, updates, shares) for updates in study.updates},
        charts=study_charts(study, outcomes),
        tuning=tuning_table(study, outcomes, results),
        rates=sorted({o.run.learning_rate for o in outcomes if o.run.phase == "tune"}),
        versions=results["versions"],
    )
    write_text(folder.page_file, html)
    return folder.page_file


def table(study: Study, results: Mapping[str, Any], updates: str, shares: bool) -> list[Row]:
    """What the fresh seeds say under one setting: a row per quantity that some cell has. shares: the scores
    are shares of right answers.
    """
    cells = {c["method"]: c["quantities"] for c in results["cells"] if c["updates"] == updates}
    compared = [d for d in results["differences"] if d["updates"] == updates]
    differences = [
        {**d["quantities"], "two_level": d.get("test_two_level"), "held_out": d.get("held_out")}
        for d in compared
    ]
    expected = [d.get("expected") or {} for d in compared]
    titles = {
        "score": f"Validation, {study.metric}"
        + (f", mean of the last {study.last}" if study.last > 1 else ", last"),
        "test": "Held-out rows, " + study.metric.removeprefix("val/"),
        "two_level": "… bootstrap over seeds and questions",
        "held_out": "… verdict",
        **{quantity.key: quantity.title for quantity in QUANTITIES},
    }
    rows = []
    for key, title in titles.items():
        percent = key in ("score", "test", "two_level", "held_out") and shares
        if any(found.get(key) for found in (*cells.values(), *differences)):
            rows.append(
                Row(
                    title,
                    [in_words(cells[method].get(key), percent) for method in study.methods],
                    [
                        with_verdict(found.get(key), of.get(key), percent)
                        for found, of in zip(differences, expected)
                    ],
                )
            )
    return rows


def with_verdict(
    difference: Mapping[str, Any] | None, expected: Mapping[str, Any] | None, percent: bool
) -> tuple[str, str]:
    """(mean, interval) of a difference, with the verdict in words where there is one."""
    value, interval = in_words(difference, percent, signed=True)
    if difference and "verdict" in difference:
        tests = f"p {difference['p']:.2g}, after Holm {difference['p_holm']:.2g}"
        return ", ".join(difference["verdict"]), f"{value} ({interval}), {tests}"
    if expected:
        interval += f"; expected {expected['expected']}: {expected['verdict']}"
    return value, interval


def in_words(estimate: Mapping[str, Any] | None, percent: bool, signed: bool = False) -> tuple[str, str]:
    """(mean, interval) as text, empty where there is nothing; differences of shares in points."""

    def word(value: float) -> str:
        points = percent and signed
        text = f"{100 * abs(value):.1f}" if points else show(abs(value), "%" if percent else "")
        sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
        return sign + text

    if estimate is None:
        return "", ""
    if estimate["low"] is None:
        return word(estimate["value"]), "one seed"
    unit = " points" if percent and signed else ""
    return word(estimate["value"]) + unit, f"{word(estimate['low'])} to {word(estimate['high'])}"


def tuning_table(
    study: Study, outcomes: Sequence[Outcome], results: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Per cell: the score of every rate (mean over the tuning seeds), which was chosen, and why none was."""
    chosen = {(c["method"], c["updates"]): c for c in results["chosen"]}
    rows = []
    for cell in study.cells:
        scores = scores_by_rate(study, outcomes, cell)
        best = chosen.get(cell, {"learning_rate": None, "at_edge": False})
        rows.append(
            {
                "method": cell[0],
                "updates": cell[1],
                "scores": scores,
                "chosen": best["learning_rate"],
                "at_edge": best["at_edge"],
                "lost": sum(lost for _, lost in scores.values()),
            }
        )
    return rows


def _counts(outcomes: Sequence[Outcome], plan: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(phase, finished, planned) of every phase that was planned."""
    return [
        (
            title,
            sum(o.run.phase == phase and o.state == "finished" for o in outcomes),
            sum(o.run.phase == phase for o in outcomes) if phase == "tune" else plan["runs"][phase],
        )
        for phase, title in (("tune", "tuning"), ("final", "fresh"), ("test", "held-out"))
        if plan["runs"][phase]
    ]
