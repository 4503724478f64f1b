"""Answers to verdicts: by the verifier, or by a reward as training pays it.

Of the paper's benchmarks both of the verifier's profiles are asked: the one that counts, and the other beside
it to show disputes. Importing this needs no torch: processes that grade stored answers again do without it.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmpo_vl.evaluation.protocols import PROFILES, Protocol, template_rules
from gmpo_vl.evaluation.results import write_protocol_results
from gmpo_vl.processes import away_from_working_directory
from gmpo_vl.rewards.inputs import inputs_of
from gmpo_vl.rewards.loading import Reward, load_reward
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord
from gmpo_vl.storage.files import write_json
from gmpo_vl.types import Example
from gmpo_vl.verify import Profile, Verdict, verify_batch

if TYPE_CHECKING:
    from gmpo_vl.types import Group

BATCH = 1_000  # answers that a process grades at a time
Answered = tuple[Example, str, int]  # a question, a response to it, and the response's tokens
Grade = tuple[Verdict | None, dict[str, float]]  # the verdict that counts, and the `reward` of its record


@dataclass(frozen=True)
class Grading:
    """How the verifier judges answers.

    grader: the profile whose verdicts count. requires: an answer without this literal counts as none.
    recorded: profiles whose verdicts stand in the records. workers: processes of `verify_batch`.
    """

    grader: Profile
    benchmark: str = ""
    answer_in: str = "box"
    requires: str | None = None
    recorded: tuple[Profile, ...] = PROFILES
    workers: int = 1

    def grade(self, answered: Sequence[Answered]) -> list[Grade]:
        """One grade per answer, in order. Its reward: `overall` by the grader, and recorded profiles."""
        golds = [example.answer for example, _, _ in answered]
        asked = [r if self.requires is None or self.requires in r else "" for _, r, _ in answered]
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


@dataclass(frozen=True)
class RewardGrading:
    """Answers are worth what a reward of training pays for them."""

    reward: Reward

    def grade(self, answered: Sequence[Answered]) -> list[Grade]:
        """One grade per answer, in order: the reward's parts, and its verdict where it explains itself.

        answered: a question's answers together. Raises ValueError where the reward fails.
        """
        inputs = [
            given
            for _, of_it in groupby(answered, key=lambda one: one[0].id)
            for given in self._inputs(list(of_it))
        ]
        return list(zip(self.reward.verdicts(inputs) or [None] * len(inputs), self.reward(inputs)))

    def _inputs(self, answered: Sequence[Answered]) -> list[dict[str, Any]]:
        return inputs_of(self.reward.asks, answered[0][0], [(text, tokens) for _, text, tokens in answered])


def grading_of(plan: dict[str, Any]) -> Grading | RewardGrading:
    """As plan.json says. Raises ValueError for a reward that cannot be loaded."""
    p, template = plan["protocol"], plan["template"]
    if p["grader"] not in PROFILES:
        return RewardGrading(load_reward(p["grader"], p.get("grader_options")))
    both = p["benchmark"] or p["grader"] == "paper"
    return Grading(
        p["grader"],
        p["benchmark"],
        template["answer_in"],
        template_rules(template["name"]).requires,
        PROFILES if both else (p["grader"],),
    )


def reward_facts(protocol: Protocol) -> dict[str, Any] | None:
    """What results state about a reward that grades: `reward`, and of a file `sha256`. None for the verifier.

    Raises ValueError where it cannot be loaded, or does not take its options.
    """
    if protocol.grader in PROFILES:
        return None
    reward = load_reward(protocol.grader, protocol.grader_options)
    file = Path(reward.module.__file__ or "")
    digest = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()} if reward.by_path else {}
    return {"reward": protocol.grader, **digest}


def graded(
    groups: Sequence[Group], grading: Grading | RewardGrading, pictures: Sequence[Future[list[str]]]
) -> list[SampleRecord]:
    """Records of the groups' samples, with their verdicts. pictures: of each group (`pictures_kept`)."""
    from gmpo_vl.rollout.scoring import records_of

    answered = [(g.prompt.example, r.text, len(r.ids_T)) for g in groups for r in g.responses]
    grades = iter(grading.grade(answered))
    for group in groups:
        of_group = [next(grades) for _ in group.responses]
        group.verdicts = [verdict for verdict, _ in of_group]
        group.scores = [reward for _, reward in of_group]
    return records_of(groups, pictures)


# --- grading again ------------------------------------------------------------------------------------------
def regrade(
    records: Sequence[SampleRecord],
    grading: Grading | RewardGrading,
    processes: int | None = None,
    progress: Callable[[int], None] = lambda graded: None,
) -> list[SampleRecord]:
    """The records with today's verdicts, in order. processes: one a core by default; 1 stays in this one, and
    so does a reward, which is anybody's code. Raises ValueError for a reward that looks at the pictures."""
    processes = processes or os.cpu_count() or 1
    if isinstance(grading, RewardGrading) and "images" in grading.reward.asks:
        raise ValueError(
            f"reward {grading.reward.name} asks for the pictures, and stored samples have none as the data has "
            "them: run `gmpo-vl eval` again into another --out"
        )
    batches = [records[i : i + BATCH] for i in range(0, len(records), BATCH)]
    jobs = [(grading, list(map(_answered, batch))) for batch in batches]
    with ExitStack() as stack:
        grades: Iterable[list[Grade]]
        if processes == 1 or len(batches) == 1 or isinstance(grading, RewardGrading):
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
    facts = reward_facts(Protocol(**plan["protocol"]))
    new = regrade(old, grading_of(plan), processes, progress)
    if facts is not None and facts != plan["grader"]:  # the reward's file was edited
        plan = {**plan, "grader": facts}
        write_json(folder.plan_file, plan)
    folder.write_samples(new)
    write_protocol_results(folder, plan, new)
    return len(new), sum(before.correct != after.correct for before, after in zip(old, new))


def _answered(record: SampleRecord) -> Answered:
    """All that a sample has of its row: everything but the pictures."""
    example = Example(record.id, record.prompt, record.gold, meta=record.meta)
    return example, record.response, record.length


def _grade(job: tuple[Grading | RewardGrading, list[Answered]]) -> list[Grade]:
    grading, answered = job
    return grading.grade(answered)


def _with_grade(record: SampleRecord, verdict: Verdict | None, reward: dict[str, float]) -> SampleRecord:
    return replace(record, reward=reward, **verdict_fields(verdict, reward))
