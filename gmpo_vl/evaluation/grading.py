"""Answers to verdicts by both profiles: the one that counts, and the other beside it to show disputes.

Importing this needs no torch: processes that grade stored answers again do without it.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gmpo_vl.evaluation.protocols import template_rules
from gmpo_vl.evaluation.results import PROFILES, write_protocol_results
from gmpo_vl.processes import away_from_working_directory
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord
from gmpo_vl.verify import Profile, Verdict, verify_batch

if TYPE_CHECKING:
    from gmpo_vl.types import Group

BATCH = 1_000  # answers that a process grades at a time
Grade = tuple[Verdict, dict[str, float]]  # the verdict that counts, and the `reward` of its record


@dataclass(frozen=True)
class Grading:
    """How a protocol's answers are judged.

    grader: the profile whose verdicts count. requires: an answer without this literal counts as none.
    recorded: profiles whose verdicts stand in the records. workers: processes of `verify_batch`.
    """

    grader: Profile
    benchmark: str = ""
    answer_in: str = "box"
    requires: str | None = None
    recorded: tuple[Profile, ...] = PROFILES
    workers: int = 1

    def grade(self, golds: Sequence[str], responses: Sequence[str]) -> list[Grade]:
        """One grade per response, in order. Its reward: `overall` by the grader, and recorded profiles."""
        asked = [r if self.requires is None or self.requires in r else "" for r in responses]
        options: dict[str, Any] = {"benchmark": self.benchmark, "answer_in": self.answer_in}
        verdicts = {
            profile: verify_batch(golds, asked, profile, **options, workers=self.workers)
            for profile in dict.fromkeys((self.grader, *self.recorded))
        }
        parts = {"overall": self.grader, **{profile: profile for profile in self.recorded}}
        return [
            (verdict, {part: float(verdicts[profile][i].correct) for part, profile in parts.items()})
            for i, verdict in enumerate(verdicts[self.grader])
        ]


def grading_of(protocol: dict[str, Any]) -> Grading:
    """From a protocol's fields, as plan.json has them."""
    rules = template_rules(protocol["template"])
    return Grading(protocol["grader"], protocol["benchmark"], rules.answer_in, rules.requires)


def graded(
    groups: Sequence[Group], grading: Grading, pictures: Sequence[Future[list[str]]]
) -> list[SampleRecord]:
    """Records of the groups' samples, with their verdicts. pictures: of each group (`pictures_kept`)."""
    from gmpo_vl.rollout.scoring import records_of

    golds = [group.prompt.example.answer for group in groups for _ in group.responses]
    grades = iter(grading.grade(golds, [r.text for group in groups for r in group.responses]))
    for group in groups:
        of_group = [next(grades) for _ in group.responses]
        group.verdicts = [verdict for verdict, _ in of_group]
        group.scores = [reward for _, reward in of_group]
    return records_of(groups, pictures)


# --- grading again ------------------------------------------------------------------------------------------
def regrade(
    records: Sequence[SampleRecord],
    grading: Grading,
    processes: int | None = None,
    progress: Callable[[int], None] = lambda graded: None,
) -> list[SampleRecord]:
    """The records with today's verdicts, in order. processes: one a core by default; 1 stays in this one."""
    processes = processes or os.cpu_count() or 1
    batches = [records[i : i + BATCH] for i in range(0, len(records), BATCH)]
    jobs = [(grading, [r.gold for r in batch], [r.response for r in batch]) for batch in batches]
    with ExitStack() as stack:
        grades: Iterable[list[Grade]]
        if processes == 1 or len(batches) == 1:
            grades = map(_grade, jobs)
        else:
            context, here = multiprocessing.get_context("spawn"), os.getcwd()
            with away_from_working_directory():  # the pool starts its processes here
                pool = ProcessPoolExecutor(min(processes, len(batches)), context, os.chdir, (here,))
                grades = stack.enter_context(pool).map(_grade, jobs)
        found: list[SampleRecord] = []
        for batch, of_batch in zip(batches, grades):
            found += [_with_grade(record, *grade) for record, grade in zip(batch, of_batch)]
            progress(len(batch))
    return found


def regrade_folder(
    folder: EvaluationFolder,
    processes: int | None = None,
    progress: Callable[[int], None] = lambda graded: None,
) -> tuple[int, int]:
    """Replace a finished evaluation's verdicts and results. Returns (answers, verdicts that changed)."""
    plan = folder.plan()
    if plan is None:
        raise FileNotFoundError(f"{folder.folder} has no plan.json: it was not written by `gmpo-vl eval`")
    old = list(folder.samples())
    new = regrade(old, grading_of(plan["protocol"]), processes, progress)
    folder.write_samples(new)
    write_protocol_results(folder, plan, new)
    return len(new), sum(before.correct != after.correct for before, after in zip(old, new))


def _grade(job: tuple[Grading, list[str], list[str]]) -> list[Grade]:
    grading, golds, responses = job
    return grading.grade(golds, responses)


def _with_grade(record: SampleRecord, verdict: Verdict, reward: dict[str, float]) -> SampleRecord:
    return replace(
        record,
        correct=verdict.correct,
        extracted=verdict.extracted,
        gold_type=verdict.gold_type,
        outcome=verdict.outcome,
        reward=reward,
    )
