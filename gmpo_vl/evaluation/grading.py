"""Answers to verdicts: by the verifier, or by a reward as training pays it.

Of the paper's benchmarks both of the verifier's profiles are asked: the one that counts, and the other beside
it to show disputes. Importing this needs no torch: processes that grade stored answers again do without it.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias

from gmpo_vl.evaluation.judged.asking import judge_of, judge_records
from gmpo_vl.evaluation.protocols import PROFILES, Protocol, template_rules
from gmpo_vl.evaluation.results import write_protocol_results
from gmpo_vl.processes import away_from_working_directory
from gmpo_vl.rewards.inputs import asks_pictures
from gmpo_vl.rewards.loading import Answered, Reward, Scored, load_reward
from gmpo_vl.rollout.scoring import fill_scores, judged, records_of
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import OFFICIAL, SampleRecord, samples_replaced, without_text
from gmpo_vl.storage.files import write_json
from gmpo_vl.types import Example, Group
from gmpo_vl.verify import Profile, verify_batch

BATCH = 1_000  # answers that a process grades at a time
Grader: TypeAlias = "Grading | Reward"
Batch: TypeAlias = list[SampleRecord]


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

    def scored(self, answered: Sequence[Answered]) -> Scored:
        """Of every response, question after question: `overall` and the recorded profiles, and the verdict
        that counts."""
        golds = [example.answer for example, responses in answered for _ in responses]
        said = [text for _, responses in answered for text, _ in responses]
        asked = [r if self.requires is None or self.requires in r else "" for r in said]
        options: dict[str, Any] = {"benchmark": self.benchmark, "answer_in": self.answer_in}
        verdicts = {
            profile: verify_batch(golds, asked, profile, **options, workers=self.workers)
            for profile in dict.fromkeys((self.grader, *self.recorded))
        }
        parts = {"overall": self.grader, **{profile: profile for profile in self.recorded}}
        return [
            ({part: float(verdicts[profile][i].correct) for part, profile in parts.items()}, verdict)
            for i, verdict in enumerate(verdicts[self.grader])
        ]


def grader_of(plan: dict[str, Any]) -> Grader:
    """The verifier or the reward that plan.json names; of a judged result the rules. Raises ValueError for
    one that cannot be loaded."""
    settings, template = plan["protocol"], plan["template"]
    grader = plan["judge"]["rules"] if "judge" in plan else settings["grader"]
    if (reward := reward_of_name(grader, settings.get("grader_options", {}))) is not None:
        return reward
    profile = "paper" if grader == "paper" else "strict"
    return Grading(
        profile,
        settings["benchmark"],
        template["answer_in"],
        template_rules(template["name"]).requires,
        PROFILES if settings["benchmark"] or profile == "paper" else (profile,),
    )


def reward_of(protocol: Protocol) -> Reward | None:
    """The reward that grades, or None for the verifier. Raises ValueError where it cannot be loaded, or does
    not take its options."""
    return reward_of_name(protocol.grader, protocol.grader_options)


def reward_of_name(grader: str, options: dict[str, Any]) -> Reward | None:
    """As `reward_of`, of a grader's name."""
    return None if grader in PROFILES else load_reward(grader, options)


def facts_of(reward: Reward) -> dict[str, str]:
    """What results state about a reward: `reward`, its name, and the `sha256` of a user's file."""
    if not reward.by_path:
        return {"reward": reward.name}
    file = Path(reward.module.__file__ or "")
    return {"reward": reward.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def graded(
    groups: Sequence[Group], grader: Grader, pictures: Sequence[Future[list[str]]]
) -> list[SampleRecord]:
    """Records of the groups' samples, with their verdicts. pictures: of each group (`pictures_kept`)."""
    fill_scores(groups, grader.scored)
    return records_of(groups, pictures)


# --- grading again ------------------------------------------------------------------------------------------
def regrade(
    records: Iterable[SampleRecord],
    grader: Grader,
    processes: int | None = None,
    progress: Callable[[int], None] = lambda graded: None,
) -> Iterator[SampleRecord]:
    """The records with today's verdicts, in order, as they come: a few batches are held. processes: one a
    core by default; 1 stays in this one, and so does a reward, which is anybody's code. Raises ValueError for
    a reward that looks at the pictures."""
    processes = processes or os.cpu_count() or 1
    if isinstance(grader, Reward):
        processes = 1
        if asks_pictures(grader.asks):
            raise ValueError(
                f"reward {grader.name} asks for the pictures as the data has them, and stored samples have "
                "none: evaluate again, with another --out"
            )
    left = iter(records)
    batches = iter(lambda: list(islice(left, BATCH)), [])
    first = list(islice(batches, 2))
    alone = processes == 1 or len(first) < 2
    scored = _scored_here if alone else partial(_scored_elsewhere, processes=processes)
    for batch, of_batch in scored(chain(first, batches), grader):
        for record, (score, verdict) in zip(batch, of_batch):
            yield replace(record, reward=score | _kept(record), **judged(score, verdict))
        progress(len(batch))


def _scored_here(batches: Iterable[Batch], grader: Grader) -> Iterator[tuple[Batch, Scored]]:
    return ((batch, _scored(grader, batch)) for batch in batches)


def _scored_elsewhere(
    batches: Iterable[Batch], grader: Grader, processes: int
) -> Iterator[tuple[Batch, Scored]]:
    """In processes of their own. Only what they work on and one batch more for each is read ahead."""
    context, here = multiprocessing.get_context("spawn"), os.getcwd()
    waiting: deque[tuple[Batch, Future[Scored]]] = deque()
    with ProcessPoolExecutor(processes, context, os.chdir, (here,)) as pool:
        for batch in batches:
            with away_from_working_directory():  # the pool starts its processes here
                waiting.append((batch, pool.submit(_scored, grader, batch)))
            if len(waiting) > 2 * processes:
                done, scored = waiting.popleft()
                yield done, scored.result()
        yield from ((batch, scored.result()) for batch, scored in waiting)


def _kept(record: SampleRecord) -> dict[str, float]:
    """What grading does not change: the verdict of the harness that the answer was imported from."""
    return {OFFICIAL: record.reward[OFFICIAL]} if OFFICIAL in record.reward else {}


def regrade_folder(
    folder: EvaluationFolder,
    processes: int | None = None,
    progress: Callable[[int], None] = lambda graded: None,
) -> tuple[int, int]:
    """Replace a finished evaluation's verdicts and results. Returns (answers, verdicts that changed)."""
    plan = folder.plan()
    if plan is None:
        raise FileNotFoundError(f"{folder.folder} has no plan.json: it was not written by `gmpo-vl eval`")
    if plan["protocol"].get("environment"):
        raise ValueError(
            f"{folder.folder} holds games, and each said itself whether it was won: there is nothing to "
            "grade again"
        )
    grader = grader_of(plan)
    were_right: list[bool] = []
    graded: list[SampleRecord] = []  # without their texts, which are written as they come

    def read() -> Iterator[SampleRecord]:
        for record in folder.samples():
            were_right.append(record.correct)
            yield record

    def kept(record: SampleRecord) -> SampleRecord:
        graded.append(without_text(record))
        return record

    new = regrade(read(), grader, processes, progress)
    if "judge" in plan:
        new = judge_records(new, judge_of(plan["judge"], folder.images))
    with samples_replaced(folder.samples_file, map(kept, new)):
        if isinstance(grader, Reward) and facts_of(grader) != plan["grader"]:  # its file was edited
            plan = {**plan, "grader": facts_of(grader)}
            write_json(folder.plan_file, plan)
        write_protocol_results(folder, plan, graded)
    return len(graded), sum(was != record.correct for was, record in zip(were_right, graded))


def _scored(grader: Grader, records: Sequence[SampleRecord]) -> Scored:
    """With all that a sample has of its row: everything but the pictures."""
    return grader.scored([_of_question(list(group)) for _, group in groupby(records, attrgetter("id"))])


def _of_question(records: Sequence[SampleRecord]) -> Answered:
    one = records[0]
    example = Example(one.id, one.prompt, one.gold, meta=one.meta)
    return example, [(record.response, record.length) for record in records]
