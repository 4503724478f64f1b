"""An evaluation as one self-contained page: figures, tables by kind of question, and a gallery."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmpo_vl.data.templates import load_template, render_problem, template_names
from gmpo_vl.evaluation.kinds import by_column
from gmpo_vl.evaluation.statistics import ENOUGH, Estimate, mean_share
from gmpo_vl.report.cards import Answer, by_question, choose, make_card, merged
from gmpo_vl.report.games import cards_of
from gmpo_vl.report.page import render
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord, episodes, without_text
from gmpo_vl.storage.files import write_text

QUESTIONS = 150  # shown in the gallery
GAMES = 24  # shown there, with every turn of an episode or two


@dataclass(frozen=True)
class Kind:
    """Questions of one kind, and the share of right answers. estimate: None where they are too few."""

    name: str
    questions: int
    share: float
    estimate: Estimate | None


def write_result_page(folder: EvaluationFolder, questions: int | None = None) -> Path:
    """Write result.html beside results.json and return its path. questions: shown, or games."""
    results = folder.results()
    games = "episode" in results
    records = list(folder.samples() if games else map(without_text, folder.samples()))
    groups = list(by_question(turns[-1] for turns in episodes(records)).values())
    shown = (GAMES if games else QUESTIONS) if questions is None else questions
    picked = [] if games else sorted(_whole(folder, pick(groups, shown)), key=_agreed)
    html = render(
        "result.html.jinja",
        results=results,
        protocol={k: v for k, v in results["settings"].items() if k not in ("name", "about")},
        prompt=_prompt(results),
        kinds=by_kind(groups, {name.partition(": ")[0] for name in results.get("aggregates", {})}),
        cards=[] if games else [make_card(folder.folder, 0, group, merged(group)) for group in picked],
        games=cards_of(folder.folder, 0, records, shown) if games else [],
        total=len(groups),
        disputed=sum(map(_disputed, groups)),
    )
    path = folder.folder / "result.html"
    write_text(path, html)
    return path


def _whole(folder: EvaluationFolder, groups: Sequence[list[SampleRecord]]) -> list[list[SampleRecord]]:
    """The groups with their texts, in the order of the file."""
    ids = {group[0].id for group in groups}
    return list(by_question(record for record in folder.samples() if record.id in ids).values())


def _prompt(results: dict[str, Any]) -> str | None:
    """What stood around each problem; None where nothing did, or where an older result does not say it."""
    named = results["settings"].get("format_prompt")
    text = load_template(named) if named in template_names() else results["template"].get("format_prompt")
    return None if text is None else render_problem("…", text)


def by_kind(
    groups: Sequence[list[SampleRecord]], shown: Collection[str] = ()
) -> list[tuple[str, list[Kind]]]:
    """(column, its kinds) for every column of the rows that sorts questions, and for the golds' types. shown:
    columns that stand on the page already."""
    return [
        (
            column,
            [
                _kind(name, np.array([np.mean([r.correct for r in g]) for g in of]))
                for name, of in found.items()
            ],
        )
        for column, found in by_column(groups).items()
        if column not in shown
    ]


def _kind(name: str, shares_Q: np.ndarray) -> Kind:
    enough = len(shares_Q) >= ENOUGH
    return Kind(name, len(shares_Q), float(shares_Q.mean()), mean_share(shares_Q) if enough else None)


def pick(groups: Sequence[list[SampleRecord]], count: int) -> list[list[SampleRecord]]:
    """`count` questions, in their order: disputed ones, up to half; then of many kinds, answered both
    ways."""
    if len(groups) <= count:
        return list(groups)
    first = [group for group in groups if _disputed(group)][: count // 2]
    ids = {group[0].id for group in first}
    rest = [group for group in groups if group[0].id not in ids]
    ids |= {group[0].id for group in choose(rest, count - len(first))}
    return [group for group in groups if group[0].id in ids]


def _agreed(group: Sequence[SampleRecord]) -> bool:
    return not _disputed(group)


def _disputed(group: Sequence[SampleRecord]) -> bool:
    return any(Answer(record, 1).disputed for record in group)
