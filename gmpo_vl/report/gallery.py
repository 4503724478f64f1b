"""Which rollouts are shown, and their pictures as data that a page carries with it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gmpo_vl.runs import Run, SampleRecord

STEPS = 5  # training steps shown, from first to last
GROUPS_PER_STEP = 10
PAIRS = 12  # questions shown before and after
LARGEST_PICTURE = 60_000  # bytes; a larger file is shown smaller
PICTURE_SIDE = 560  # pixels, of a picture shown smaller


@dataclass(frozen=True)
class Answer:
    """A response, with how many of its group said exactly this. `label` says when, where that matters."""

    record: SampleRecord
    count: int
    label: str = ""

    @property
    def score(self) -> float:
        return self.record.reward.get("overall", float(self.record.correct))


@dataclass(frozen=True)
class Card:
    """One question with its pictures and some answers to it. `pictures`: data URIs, None where the file is gone."""

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
    """Groups of rollouts of a few steps, first and last among them."""
    cards = []
    for step in spread(run.rollout_steps(), STEPS):
        groups = _by_group(run.read_rollouts(step))
        cards += [_card(run, step, group, _merged(group)) for group in choose(groups, GROUPS_PER_STEP)]
    return cards


def before_and_after(run: Run) -> tuple[list[Card], int, int]:
    """The first questions logged at both the first and the last validation, with the answers of both; and the two steps.

    No choice by outcome: what got worse is shown too.
    """
    steps = run.rollout_steps("validation")
    if len(steps) < 2:
        return [], 0, 0
    first, last = steps[0], steps[-1]
    before = {group[0].id: group for group in _by_group(run.read_rollouts(first, "validation"))}
    after = {group[0].id: group for group in _by_group(run.read_rollouts(last, "validation"))}
    cards = []
    for key in [key for key in before if key in after][:PAIRS]:
        answers = _merged(before[key], f"step {first}") + _merged(after[key], f"step {last}")
        cards.append(_card(run, last, after[key], answers))
    return cards, first, last


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
    """What a question can be filtered by: the family at the end of its id (`train-0-00017-triangle`), or its gold's type."""
    family = re.search(r"-\d+-([a-z]\w*)$", record.id)
    return (family.group(1) if family else record.gold_type).replace("_", " ")


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


def _card(run: Run, step: int, group: Sequence[SampleRecord], answers: list[Answer]) -> Card:
    first = group[0]
    pictures = [picture_uri(run.folder / "images" / f"{digest}.webp") for digest in first.images]
    return Card(
        step,
        kind_of(first),
        _without_tags(first.prompt, len(pictures)),
        plain_gold(first.gold),
        pictures,
        answers,
    )


def _without_tags(problem: str, pictures: int) -> str:
    """One picture stands beside its question; of several, the text must still say which is meant where."""
    if pictures == 1:
        return problem.replace("<image>", "").strip()
    parts = problem.split("<image>")
    return parts[0] + "".join(f"[picture {i}]{part}" for i, part in enumerate(parts[1:], start=1))


def _by_group(records: Sequence[SampleRecord]) -> list[list[SampleRecord]]:
    groups: dict[str, list[SampleRecord]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record)
    return list(groups.values())


def _merged(group: Sequence[SampleRecord], label: str = "") -> list[Answer]:
    """Equal responses once, with their number; right ones first, then by number."""
    counts: dict[tuple, list[SampleRecord]] = {}
    for record in group:
        counts.setdefault((record.response, record.correct, record.finished), []).append(record)
    answers = [Answer(records[0], len(records), label) for records in counts.values()]
    return sorted(answers, key=lambda a: (not a.record.correct, -a.count))
