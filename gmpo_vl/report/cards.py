"""Which rollouts are shown, and their pictures as data that a page carries with it."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from gmpo_vl.runs import Run
from gmpo_vl.samples import JUDGE, OFFICIAL, SampleRecord, read_samples

STEPS = 5  # training steps shown, from first to last
GROUPS_PER_STEP = 10
PAIRS = 12  # questions shown before and after
LARGEST_PICTURE = 60_000  # bytes; a larger file is shown smaller
PICTURE_SIDE = 560  # pixels, of a picture shown smaller
Groups = dict[str, list[SampleRecord]]  # {question's id: its samples}


@dataclass(frozen=True)
class Answer:
    """A response, with how many of its group said exactly this. `label` says when, where that matters."""

    record: SampleRecord
    count: int
    label: str = ""

    @property
    def score(self) -> float:
        return self.record.reward.get("overall", float(self.record.correct))

    @property
    def graders(self) -> dict[str, bool]:
        """{who said so: right?}, of the verifier's profiles, and of the harness that the answer was imported
        from (`official`), beside the grader that counted: of judged answers the `judge`."""
        reward = self.record.reward
        asked = {name: reward[name] >= 0.5 for name in ("strict", "paper", OFFICIAL, JUDGE) if name in reward}
        return asked if OFFICIAL not in asked or len(asked) > 1 else {"here": self.record.correct, **asked}

    @property
    def disputed(self) -> bool:
        """Do they disagree? False where only one was asked."""
        return len(set(self.graders.values())) > 1


@dataclass(frozen=True)
class Card:
    """One question, with its pictures and some answers. pictures: data URIs, None for a lost file."""

    step: int
    kind: str
    problem: str
    gold: str
    pictures: list[str | None]
    answers: list[Answer]

    @property
    def right(self) -> int:
        return sum(a.count for a in self.answers if a.record.correct)

    @property
    def total(self) -> int:
        return sum(a.count for a in self.answers)


def training_cards(run: Run) -> list[Card]:
    """Groups of rollouts of a few steps, first and last among them; games are shown elsewhere (games.py)."""
    return [
        make_card(run.folder, step, group, merged(group))
        for step in spread(run.rollout_steps(), STEPS)
        for group in choose(list(by_question(run.read_rollouts(step)).values()), GROUPS_PER_STEP)
        if not group[0].turn
    ]


@dataclass(frozen=True)
class Pairs:
    """Questions answered twice. `what`: where they come from; `labels`: of the two answers."""

    what: str
    labels: tuple[str, str]
    cards: list[Card]


def before_and_after(run: Run) -> Pairs | None:
    """The first questions that the run answered both before and after. What got worse is shown, too.

    From eval/before_greedy and eval/after_greedy, or eval/before and eval/after, or the first and last
    validation that was logged (`trainer.val_generations_to_log`); None where the run has none of them.
    """
    for names in (("before_greedy", "after_greedy"), ("before", "after")):
        samples = [run.folder / "eval" / name / "samples.jsonl" for name in names]
        if all(path.is_file() for path in samples):
            first, last = map(_first_groups, samples)
            what, labels = f"test questions ({names[0]} and {names[1]})", ("before", "after")
            return Pairs(what, labels, _pairs(labels, first, last, samples[1].parent))
    steps = run.rollout_steps("validation")
    if len(steps) < 2:
        return None
    first, last = (by_question(run.read_rollouts(step, "validation")) for step in (steps[0], steps[-1]))
    labels = (f"step {steps[0]}", f"step {steps[-1]}")
    return Pairs("logged validation questions", labels, _pairs(labels, first, last, run.folder))


def spread(steps: Sequence[int], count: int) -> list[int]:
    """`count` of the steps, evenly from first to last; all where there are no more."""
    if len(steps) <= count:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (count - 1))] for i in range(count)]


def choose(groups: Sequence[list[SampleRecord]], count: int) -> list[list[SampleRecord]]:
    """Groups of many kinds, those with right and wrong answers first; otherwise in their order."""
    left, chosen, seen = list(groups), [], Counter()
    while left and len(chosen) < count:
        best = min(left, key=lambda g: (seen[kind_of(g[0])], len({r.correct for r in g}) == 1))
        left.remove(best)
        chosen.append(best)
        seen[kind_of(best[0])] += 1
    return chosen


def kind_of(record: SampleRecord) -> str:
    """What a question can be filtered by: its row's `family`, `subject`, `level` or `category`, or its gold's
    type."""
    named = [record.meta[key] for key in ("family", "subject", "level", "category") if record.meta.get(key)]
    return str(named[0] if named else record.gold_type).replace("_", " ")


def plain_gold(gold: str) -> str:
    """The gold as a person reads it; an answer column may hold a JSON object with type and tolerance."""
    if not gold.startswith("{"):
        return gold
    try:
        value = json.loads(gold)["gold"]
    except (ValueError, KeyError):
        return gold
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


def picture_uri(path: Path) -> str | None:
    """A picture's file as a data URI, made smaller where it is large; None where there is no file."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    if len(data) > LARGEST_PICTURE:
        from PIL import Image

        with Image.open(path) as image:
            image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=80)
        data = buffer.getvalue()
    return "data:image/webp;base64," + base64.b64encode(data).decode()


def _first_groups(samples: Path) -> Groups:
    """The first questions of an evaluation, without reading its other samples."""
    groups: Groups = {}
    for record in read_samples(samples):
        if record.id not in groups and len(groups) == PAIRS:
            break
        groups.setdefault(record.id, []).append(record)
    return groups


def _pairs(labels: tuple[str, str], before: Groups, after: Groups, folder: Path) -> list[Card]:
    return [
        make_card(folder, 0, after[key], merged(before[key], labels[0]) + merged(after[key], labels[1]))
        for key in [key for key in before if key in after][:PAIRS]
        if not after[key][0].turn
    ]


def pictures_of(folder: Path, record: SampleRecord) -> list[str | None]:
    """A record's pictures. Only ever files of FOLDER/images, whatever the record says."""
    return [picture_uri(folder / "images" / f"{PurePath(name).name}.webp") for name in record.images]


def make_card(folder: Path, step: int, group: Sequence[SampleRecord], answers: list[Answer]) -> Card:
    """A question's card; its pictures lie in FOLDER/images."""
    first, pictures = group[0], pictures_of(folder, group[0])
    problem = _without_tags(first.prompt, len(pictures))
    return Card(step, kind_of(first), problem, plain_gold(first.gold), pictures, answers)


def _without_tags(problem: str, pictures: int) -> str:
    """One picture stands beside its question; of several, the text must still say which is meant where."""
    if pictures == 1:
        return problem.replace("<image>", "").strip()
    parts = problem.split("<image>")
    return parts[0] + "".join(f"[picture {i}]{part}" for i, part in enumerate(parts[1:], start=1))


def by_question(records: Iterable[SampleRecord]) -> Groups:
    """{question's id: its samples}, in their order."""
    groups: Groups = {}
    for record in records:
        groups.setdefault(record.id, []).append(record)
    return groups


def merged(group: Sequence[SampleRecord], label: str = "") -> list[Answer]:
    """Equal responses once, with their number; right ones first, then by number."""
    counts: dict[tuple, list[SampleRecord]] = {}
    for record in group:
        counts.setdefault((record.response, record.correct, record.finished), []).append(record)
    answers = [Answer(records[0], len(records), label) for records in counts.values()]
    return sorted(answers, key=lambda a: (not a.record.correct, -a.count))
