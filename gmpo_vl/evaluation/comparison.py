"""Two methods, or two checkpoints, on the same questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gmpo_vl.evaluation.official import golds_agree
from gmpo_vl.evaluation.results import counts, differing, in_words
from gmpo_vl.evaluation.statistics import Difference, two_level_difference
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import without_text

Shares = dict[str, float]  # {question: share of its answers that are right}

ReadShares = Callable[[EvaluationFolder, str], Shares]  # of an evaluation, by a grader

_SAME = (
    "settings",
    "data",
    "template",
    "grader",
    "environment",
)  # parts of results.json that both sides must share
_MAY_DIFFER = {
    "settings.name",
    "settings.seed",
    "settings.about",
    "settings.pictures",  # a control beside the right pictures: does the policy look?
    "settings.data",
    "data.source",
    "data.pinned",
}


@dataclass(frozen=True)
class Compared:
    """b against a. a_SQ, b_SQ: float64 (seeds, questions), share of right answers. what: the questions are,
    which may be games. notes: what else sets the two sides apart, in sentences."""

    questions: list[str]
    a_SQ: np.ndarray
    b_SQ: np.ndarray
    difference: Difference
    what: str = "question"
    notes: tuple[str, ...] = ()

    @property
    def gains_Q(self) -> np.ndarray:
        """b - a of each question, mean over seeds."""
        return self.b_SQ.mean(axis=0) - self.a_SQ.mean(axis=0)


def shares_of(folder: EvaluationFolder, grader: str) -> Shares:
    """By this grader."""
    records = list(map(without_text, folder.samples()))
    n = folder.results()["n"]
    questions = dict.fromkeys(record.id for record in records)
    return {key: c / n for key, c in zip(questions, counts(records, n, grader).tolist())}


def compare(
    a: Sequence[EvaluationFolder],
    b: Sequence[EvaluationFolder],
    grader: str = "overall",
    read: ReadShares = shares_of,
) -> Compared:
    """Finished evaluations, one folder a seed. grader: whose verdicts: `overall`, `strict`, `paper` or, of
    imported answers, the harness's `official`. read: for callers that keep what
    it reads.

    An imported result is compared over the questions that all have, whatever their prompts and sampling; the
    golds must agree. Raises ValueError where the evaluations asked other questions, or where own ones asked
    them otherwise.
    """
    folders = [*a, *b]
    stated = [folder.results() for folder in folders]
    if any("imported" in results["settings"] for results in stated):
        return compare_imported(a, b, stated, grader, read)
    conditions = [{key: results[key] for key in _SAME if key in results} for results in stated]
    let_be = _MAY_DIFFER | ({"settings.grader"} if grader != "overall" else set())
    for folder, found in zip(folders, conditions):
        apart = {k: v for k, v in differing(conditions[0], found).items() if k not in let_be}
        if apart:
            raise ValueError(
                f"{folder.folder} cannot be compared with {folders[0].folder}: {in_words(apart)}"
            )
    shares = [read(folder, grader) for folder in folders]
    for folder, found in zip(folders, shares):
        if found.keys() != shares[0].keys():
            other = sorted(found.keys() ^ shares[0].keys())[:3]
            raise ValueError(
                f"{folder.folder} answered other questions than {folders[0].folder}: {', '.join(other)}"
            )
    return compared(shares, len(a), "game" if "episode" in stated[0] else "question")


def compared(
    shares: Sequence[dict[str, float]], of_a: int, what: str = "question", notes: tuple[str, ...] = ()
) -> Compared:
    """Of {question: share of right answers} of every evaluation, the first `of_a` of them a's, with the same
    questions in all."""
    questions = list(shares[0])
    table_SQ = np.array([[found[question] for question in questions] for found in shares])
    a_SQ, b_SQ = table_SQ[:of_a], table_SQ[of_a:]
    return Compared(questions, a_SQ, b_SQ, two_level_difference(a_SQ, b_SQ), what, notes)


# --- with an imported result --------------------------------------------------------------------------------
def compare_imported(
    a: Sequence[EvaluationFolder],
    b: Sequence[EvaluationFolder],
    stated: list[dict],
    grader: str,
    read: ReadShares,
) -> Compared:
    """stated: the results of all. Raises ValueError for other graders, and where the questions are not the
    same ones."""
    folders = [*a, *b]
    graders = {results["settings"].get("grader", "strict") for results in stated}
    if grader == "overall" and len(graders) > 1:
        raise ValueError(
            f"graded by {' and '.join(sorted(graders))}: --grader strict compares by one, or import again "
            "with the other's --grader"
        )
    shares = [read(folder, grader) for folder in folders]
    common = [key for key in shares[0] if all(key in found for found in shares)]
    if not common:
        raise ValueError(
            f"{folders[0].folder} and {folders[-1].folder} have no question in common "
            f"({next(iter(shares[0]))} here, {next(iter(shares[-1]))} there): import again with --data, the "
            "rows that the other evaluation asked"
        )
    first, *others = [_golds(folder) for folder in folders]
    apart = [key for key in common if any(not golds_agree(first[key], golds[key]) for golds in others)]
    if 2 * len(apart) > len(common):
        raise ValueError(
            f"{len(apart):,} of {len(common):,} questions with the same id have another right answer "
            f"({apart[0]}: {first[apart[0]][:40]!r} here): these are other questions. Import again with "
            "--data"
        )
    kept = [key for key in common if key not in set(apart)]
    notes = [_asked(folder, results) for folder, results in zip(folders, stated)]
    if apart:
        notes.append(f"left out, since their golds differ: {len(apart):,} questions")
    for folder, found in zip(folders, shares):
        if missing := len(found) - len(common):
            notes.append(f"{missing:,} questions of {folder.folder} are not in the other and were left out")
    return compared([{key: found[key] for key in kept} for found in shares], len(a), notes=tuple(notes))


def _golds(folder: EvaluationFolder) -> dict[str, str]:
    return {record.id: record.gold for record in folder.samples()}


def _asked(folder: EvaluationFolder, results: dict) -> str:
    """Who asked, with which sampling, as far as it is stated."""
    settings = results["settings"]
    if "imported" not in settings:
        return f"{folder.folder}: asked here, temperature {settings.get('temperature')}, n {results['n']}"
    facts = settings["imported"]
    sampling = facts.get("sampling") or facts.get("gen_kwargs") or "not stated"
    return f"{folder.folder}: imported from {facts['harness']}, n {results['n']}, sampling {sampling}"
