"""An evaluation as one self-contained page: figures, tables by kind of question, and a gallery that can be filtered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmpo_vl.evaluation.statistics import Estimate, mean_share
from gmpo_vl.report.gallery import Card, by_question, choose, make_card, merged
from gmpo_vl.report.page import render
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord
from gmpo_vl.storage.files import write_text

QUESTIONS = 150  # shown in the gallery
KINDS = ("family", "subject", "level", "type", "benchmark", "gold type")
MOST_KINDS = 40  # values of a column worth a table


@dataclass(frozen=True)
class Kind:
    """Questions of one kind, and the share of right answers to them; no interval where there are fewer than 10."""

    name: str
    questions: int
    share: float
    estimate: Estimate | None


def write_page(folder: EvaluationFolder, questions: int = QUESTIONS) -> Path:
    """Write result.html beside results.json and return its path."""
    results = folder.results()
    groups = list(by_question(folder.samples()).values())
    shown = pick(groups, questions)
    html = render(
        "result.html.jinja",
        results=results,
        protocol={k: v for k, v in results["settings"].items() if k not in ("name", "about")},
        kinds=by_kind(groups),
        cards=[_card(folder.folder, group) for group in shown],
        total=len(groups),
        disputed=sum(_disputed(group) for group in groups),
    )
    path = folder.folder / "result.html"
    write_text(path, html)
    return path


def by_kind(groups: Sequence[list[SampleRecord]]) -> list[tuple[str, list[Kind]]]:
    """(column, its kinds) for every column of the rows that sorts questions, and for the golds' types."""
    tables = []
    for column in KINDS:
        found: dict[str, list[float]] = {}
        for group in groups:
            value = group[0].gold_type if column == "gold type" else group[0].meta.get(column)
            if value is not None:
                found.setdefault(str(value).replace("_", " "), []).append(
                    float(np.mean([r.correct for r in group]))
                )
        if 1 < len(found) <= MOST_KINDS:
            tables.append((column, [_kind(name, np.array(shares)) for name, shares in sorted(found.items())]))
    return tables


def _kind(name: str, shares_Q: np.ndarray) -> Kind:
    return Kind(
        name, len(shares_Q), float(shares_Q.mean()), mean_share(shares_Q) if len(shares_Q) >= 10 else None
    )


def pick(groups: Sequence[list[SampleRecord]], count: int) -> list[list[SampleRecord]]:
    """Disputed questions first, up to half of `count`; then of many kinds, those answered both ways first. In their order."""
    if len(groups) <= count:
        return list(groups)
    first = [group for group in groups if _disputed(group)][: count // 2]
    ids = {group[0].id for group in first}
    rest = [group for group in groups if group[0].id not in ids]
    ids |= {group[0].id for group in choose(rest, count - len(first))}
    return [group for group in groups if group[0].id in ids]


def _disputed(group: Sequence[SampleRecord]) -> bool:
    return any(r.reward.get("strict") != r.reward.get("paper") for r in group)


def _card(folder: Path, group: list[SampleRecord]) -> Card:
    return make_card(folder, 0, group, merged(group))
