"""Stored answers graded again by today's verifier, without generating: two or more processes, in batches."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from gmpo_vl.evaluation.grading import Grading
from gmpo_vl.processes import away_from_working_directory
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord
from gmpo_vl.verify import Verdict

BATCH = 1_000  # answers handed to a process at a time


@dataclass(frozen=True)
class Regraded:
    """`records` with new verdicts; `changed`: how many answers the grader that counts now sees otherwise."""

    records: list[SampleRecord]
    changed: int


def regrade(
    records: Sequence[SampleRecord],
    grading: Grading,
    processes: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Regraded:
    """New verdicts for every record, in order. processes: one a core by default; 1 stays in this process."""
    processes = processes or os.cpu_count() or 1
    batches = [records[i : i + BATCH] for i in range(0, len(records), BATCH)]
    jobs = [(grading, [(r.gold, r.response) for r in batch]) for batch in batches]
    found: list[SampleRecord] = []
    if processes == 1 or len(batches) == 1:
        answers = map(_grade, jobs)
        found = _collect(batches, answers, progress)
    else:
        context = multiprocessing.get_context("spawn")
        where = os.getcwd()
        with away_from_working_directory():
            pool = ProcessPoolExecutor(
                min(processes, len(batches)), mp_context=context, initializer=os.chdir, initargs=(where,)
            )
            answers = pool.map(_grade, jobs)
        with pool:
            found = _collect(batches, answers, progress)
    return Regraded(found, sum(old.correct != new.correct for old, new in zip(records, found)))


def regrade_folder(
    folder: EvaluationFolder, processes: int | None = None, progress: Callable[[int], None] | None = None
) -> Regraded:
    """The same for a finished evaluation; its samples.jsonl and results.json are replaced."""
    from gmpo_vl.evaluation.grading import grading_of
    from gmpo_vl.evaluation.results import write_results

    plan = folder.plan()
    if plan is None:
        raise FileNotFoundError(f"{folder.folder} has no plan.json: it was not written by `gmpo-vl eval`")
    result = regrade(list(folder.samples()), grading_of(plan["protocol"]), processes, progress)
    folder.write_samples(result.records)
    write_results(folder, plan, result.records)
    return result


def _grade(job: tuple[Grading, list[tuple[str, str]]]) -> list[tuple[Verdict, dict[str, float]]]:
    grading, pairs = job
    verdicts = grading.verdicts([gold for gold, _ in pairs], [response for _, response in pairs])
    return [(verdicts[grading.grader][i], grading.scores(verdicts, i)) for i in range(len(pairs))]


def _collect(batches, answers, progress: Callable[[int], None] | None) -> list[SampleRecord]:
    found: list[SampleRecord] = []
    for batch, graded in zip(batches, answers):
        for record, (verdict, scores) in zip(batch, graded):
            found.append(
                replace(
                    record,
                    correct=verdict.correct,
                    extracted=verdict.extracted,
                    gold_type=verdict.gold_type,
                    outcome=verdict.outcome,
                    reward=scores,
                )
            )
        if progress is not None:
            progress(len(batch))
    return found
