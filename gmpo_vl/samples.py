"""Samples, one response a line, of training and evaluation; and their pictures (docs/formats.md)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from gmpo_vl.storage.files import bad_line, numbered_jsonl, to_line, whole_file

OFFICIAL = "official"  # a part of `reward`: the verdict, 0 to 1, of the harness an answer was imported from
JUDGE = "judge"  # the same of a judge model that was asked about the answer (`gmpo-vl eval judge`)


@dataclass(frozen=True)
class SampleRecord:
    """One sampled response, in training and in evaluation alike.

    id: the example's. group: the group's key. k: which of the group's samples. images: sha256 of each picture
        as the
    model saw it (images/SHA256.webp). reward: every part of the score, `overall` among them. length: tokens
    of the response. meta: the row's other columns, such as `family` or `level`. turn: of a game, which turn
    of which episode this is and what it led to (episode, number, action, reward, penalty); `prompt` and
    `images` are then the turn's, `reward` and `correct` the episode's. The last turn of an episode says how
    it ended, too (ending, reason), and in evaluations what the game said (evaluation/games.py).
    """

    id: str
    group: str
    k: int
    prompt: str
    images: list[str]
    response: str
    finished: bool
    gold: str
    extracted: str | None
    gold_type: str
    correct: bool
    outcome: str
    reward: dict[str, float]
    seed: int
    length: int
    meta: dict[str, Any] = field(default_factory=dict)
    turn: dict[str, Any] = field(default_factory=dict)


def without_text(record: SampleRecord) -> SampleRecord:
    """All that figures and tables take: the texts of an evaluation may be gigabytes."""
    return SampleRecord(**{**vars(record), "prompt": "", "response": ""})


def read_samples(path: Path) -> Iterator[SampleRecord]:
    """A file's records in order. Raises ValueError naming a line that is none.

    These files are written whole, so half a last line is an error too.
    """
    for number, row in numbered_jsonl(path, appended=False):
        problem = _no_record(row)
        if problem is not None:
            raise bad_line(path, number, f"not a sample: {problem}")
        yield SampleRecord(**row)


def write_samples(path: Path, records: Iterable[SampleRecord]) -> None:
    """Write the records to a file, whole, one a line. They are not held: an iterator's lines are written as
    they come."""
    with (
        whole_file(path) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.writelines(to_line(written(record)) for record in records)


@contextmanager
def samples_replaced(path: Path, records: Iterable[SampleRecord]) -> Iterator[None]:
    """Write the records, as `write_samples` does, before the block; they take the place of the file's when it
    ends. Where writing or the block fails the file stays as it was."""
    with whole_file(path) as partial:
        write_samples(partial, records)
        yield


def written(record: SampleRecord) -> dict[str, Any]:
    """A record's fields as its line has them: `turn` in games alone."""
    return {name: value for name, value in vars(record).items() if name != "turn" or value}


# {field of a record: what its value is}
_KINDS = {
    name: get_origin(hint) if get_origin(hint) in (list, dict) else hint
    for name, hint in get_type_hints(SampleRecord).items()
}


def _no_record(row: dict[str, Any]) -> str | None:
    """Why these are not a SampleRecord's fields; None where they are."""
    for name, kind in _KINDS.items():
        if name not in row and name not in ("meta", "turn"):
            return f"no {name!r}"
        if name in row and not isinstance(row[name], kind):  # type: ignore[arg-type]
            return f"{name} is {row[name]!r:.60}"
    unknown = row.keys() - _KINDS.keys()
    if unknown:
        return f"unknown {min(unknown)!r}"
    if not all(isinstance(name, str) for name in row["images"]):
        return f"images are {row['images']!r:.60}"
    turn = row.get("turn")
    if turn and not all(type(turn.get(name)) is int for name in ("episode", "number")):
        return f"turn is {turn!r:.60}"
    bad = (
        f"reward {part} is {value!r:.60}" for part, value in row["reward"].items() if as_figure(value) is None
    )
    return next(bad, None)


def store_image(folder: Path, pixels_HWC: Any) -> str:
    """Write a uint8 picture (height, width, 3) as FOLDER/SHA256.webp, once. The hash is of its pixels."""
    import numpy as np
    from PIL import Image

    pixels = np.ascontiguousarray(pixels_HWC)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    path = folder / f"{digest}.webp"
    if not path.exists():
        with whole_file(path, synced=False) as partial:
            Image.fromarray(pixels).save(partial, "WEBP", quality=90, method=2)
    return digest


def episodes(records: Iterable[SampleRecord]) -> list[list[SampleRecord]]:
    """In order: the turns of an episode of a game together, and every other sample alone."""
    found: list[list[SampleRecord]] = []
    for record in records:
        if found and record.turn and record.turn["number"] > 1:
            found[-1].append(record)
        else:
            found.append([record])
    return found


def as_figure(value: Any) -> float | None:
    """A finite number as a float; None for everything else, because JSON has no NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond every float
        return None
