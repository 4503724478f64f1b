"""Is a chunk's file what the plan wants of it? One that is not is set aside, and its questions are answered again.

Light to import: no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, count
from typing import Any

from gmpo_vl.rollout.seeds import sample_seed
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import read_samples


def chunk_size(plan: dict[str, Any]) -> int:
    """Questions of a chunk: the protocol's number, unless the plan has one of its own. Raises ValueError for none."""
    protocol = plan["protocol"] if isinstance(plan["protocol"], dict) else {}
    size = plan.get("chunk", protocol.get("chunk"))
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"plan.json: chunk is {size!r}, not a number of questions: put back what it was")
    return size


def count_of_chunks(plan: dict[str, Any]) -> int:
    """Raises ValueError where the plan does not say it."""
    questions, size = plan["questions"], chunk_size(plan)
    if isinstance(questions, bool) or not isinstance(questions, int) or questions < 0:
        raise ValueError(f"plan.json: questions is {questions!r}, not a number of them: put back what it was")
    return -(-questions // size)


def sound_chunks(
    folder: EvaluationFolder,
    plan: dict[str, Any],
    numbers: Iterable[int] | None = None,
    ids: Sequence[str] | None = None,
) -> set[int]:
    """The finished chunks, of `numbers` or of all, whose samples are the plan's. The others are renamed to `*.bad`, and said.

    ids: of all questions, where they are known; otherwise two chunks with the same question are both bad.
    """
    wanted = (
        folder.finished_chunks() if numbers is None else sorted(set(numbers) & {*folder.finished_chunks()})
    )
    faults: dict[int, str] = {}
    owners: dict[str, int] = {}
    for number in wanted:
        found, fault = _looked_at(folder, plan, number, ids)
        if fault is None:
            others = {owners.setdefault(question, number) for question in found} - {number}
            for other in others:
                fault = f"has questions of chunk {other}"
                faults.setdefault(other, f"has questions of chunk {number}")
        if fault is not None:
            faults[number] = fault
    for number, fault in sorted(faults.items()):
        aside = _set_aside(folder, number)
        print(f"{_name(folder, number)} {fault}: set aside as {aside}", file=sys.stderr)
    return set(wanted) - set(faults)


def _looked_at(
    folder: EvaluationFolder, plan: dict[str, Any], number: int, ids: Sequence[str] | None
) -> tuple[list[str], str | None]:
    """The ids of a chunk's questions, and what is wrong with it."""
    size, n = chunk_size(plan), plan["protocol"]["n"]
    places = range(plan["questions"])[number * size : (number + 1) * size]
    if not places:
        return [], f"is none of the plan's {count_of_chunks(plan)} chunks"
    try:
        records = list(read_samples(folder.chunks / f"{number:06d}.jsonl"))
        float((folder.chunks / f"{number:06d}.seconds").read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError) as error:
        return [], f"cannot be read ({error})"
    if len(records) != len(places) * n:
        return [], f"has {len(records)} samples, not {len(places)} questions x {n}"
    found = [record.id for record in records[::n]]
    seed = plan["protocol"]["seed"]
    for i, record in enumerate(records):
        question, k = found[i // n], i % n
        if (record.id, record.k, record.seed) != (question, k, sample_seed(seed, question, 0, k)):
            return (
                [],
                f"has another sample than the plan's in line {i + 1} (question {record.id}, number {record.k})",
            )
    if ids is not None and found != list(ids[places.start : places.stop]):
        return [], "has other questions than the data has there"
    return found, "has a question twice" if len(set(found)) < len(found) else None


def _set_aside(folder: EvaluationFolder, number: int) -> str:
    """Rename a chunk's files, beside those that were set aside before. Returns the new name."""
    samples, seconds = (folder.chunks / f"{number:06d}.{ending}" for ending in ("jsonl", "seconds"))
    endings = chain(["bad"], (f"bad_{k}" for k in count(2)))
    bad = next(ending for ending in endings if not samples.with_name(f"{samples.name}.{ending}").exists())
    for path in (samples, seconds):
        with suppress(FileNotFoundError):  # by another shard, or never there
            path.replace(path.with_name(f"{path.name}.{bad}"))
    return f"{samples.name}.{bad}"


def _name(folder: EvaluationFolder, number: int) -> str:
    return f"{folder.chunks / f'{number:06d}.jsonl'}"
