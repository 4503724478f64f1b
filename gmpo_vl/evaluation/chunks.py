"""Is a chunk's file what the plan wants? One that is not is set aside, and its questions are answered again.

Importing this needs no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, count
from typing import Any

from gmpo_vl.rollout.seeds import sample_seed, turn_name
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord, episodes, read_samples


class _BadChunk(ValueError):
    """What is wrong with a chunk, behind its file's name."""


def chunk_size(plan: dict[str, Any]) -> int:
    """Questions of a chunk: the plan's own number or the protocol's. Raises ValueError for none."""
    protocol = plan["protocol"] if isinstance(plan["protocol"], dict) else {}
    return _whole("chunk", plan.get("chunk", protocol.get("chunk")), 1, "not a number of questions")


def count_of_chunks(plan: dict[str, Any]) -> int:
    """Raises ValueError where the plan does not say it."""
    size = chunk_size(plan)
    return -(-_whole("questions", plan["questions"], 0, "not a number of them") // size)


def _whole(key: str, value: Any, least: int, otherwise: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"plan.json: {key} is {value!r}, {otherwise}: put back what it was")
    return value


def sound_chunks(
    folder: EvaluationFolder,
    plan: dict[str, Any],
    numbers: Iterable[int] | None = None,
    ids: Sequence[str] | None = None,
) -> set[int]:
    """The finished chunks, of `numbers` or of all, whose samples are the plan's.

    The others are renamed to `*.bad`, and named on stderr. ids: of all questions, where they are known;
    otherwise two chunks with the same question are both bad.
    """
    finished = folder.finished_chunks()
    wanted = finished if numbers is None else sorted(set(numbers) & set(finished))
    faults: dict[int, str] = {}
    owners: dict[str, int] = {}
    for number in wanted:
        try:
            found = _questions(folder, plan, number, ids)
        except _BadChunk as error:
            faults[number] = str(error)
            continue
        for other in {owners.setdefault(question, number) for question in found} - {number}:
            faults[number] = f"has questions of chunk {other}"
            faults.setdefault(other, f"has questions of chunk {number}")
    for number, fault in sorted(faults.items()):
        aside = _set_aside(folder, number)
        print(f"{folder.chunks / f'{number:06d}.jsonl'} {fault}: set aside as {aside}", file=sys.stderr)
    return set(wanted) - set(faults)


def _questions(
    folder: EvaluationFolder, plan: dict[str, Any], number: int, ids: Sequence[str] | None
) -> list[str]:
    """The ids of a chunk's questions. Raises _BadChunk where the file is not what the plan wants."""
    size, n = chunk_size(plan), plan["protocol"]["n"]
    places = range(plan["questions"])[number * size : (number + 1) * size]
    if not places:
        raise _BadChunk(f"is none of the plan's {count_of_chunks(plan)} chunks")
    try:
        samples = episodes(read_samples(folder.chunks / f"{number:06d}.jsonl"))
        float((folder.chunks / f"{number:06d}.seconds").read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError) as error:
        raise _BadChunk(f"cannot be read ({error})") from error
    if len(samples) != len(places) * n:
        raise _BadChunk(f"has {len(samples)} samples, not {len(places)} questions x {n}")
    found = [turns[0].id for turns in samples[::n]]
    _check_samples(samples, found, plan)
    if ids is not None and found != list(ids[places.start : places.stop]):
        raise _BadChunk("has other questions than the data has there")
    if len(set(found)) < len(found):
        raise _BadChunk("has a question twice")
    return found


def _check_samples(
    samples: Sequence[Sequence[SampleRecord]], questions: Sequence[str], plan: dict[str, Any]
) -> None:
    """samples: each one record, or the turns of an episode. Raises _BadChunk where one is not the plan's."""
    n: int = plan["protocol"]["n"]
    seed: int = plan["protocol"]["seed"]
    games = bool(plan["protocol"].get("environment"))
    line = k = 0
    for i, turns in enumerate(samples):
        question, episode = questions[i // n], i % n
        k = 0 if episode == 0 else k
        for number, record in enumerate(turns, start=1):
            line += 1
            seeds = [sample_seed(seed, question, 0, episode)] if number == 1 else []
            place = None
            if games:  # a first turn that was not as the other episodes' was asked alone
                seeds.append(sample_seed(seed, turn_name(question, episode, number), 0, 0))
                place = episode, number
            found = (record.turn["episode"], record.turn["number"]) if record.turn else None
            if (record.id, record.k, found) != (question, k, place) or record.seed not in seeds:
                which = f"(question {record.id}, number {record.k})"
                raise _BadChunk(f"has another sample than the plan's in line {line} {which}")
            k += 1
        if games and not isinstance(turns[-1].turn.get("ending"), str):
            raise _BadChunk(f"has an episode of {question} that has no end, in line {line}")


def _set_aside(folder: EvaluationFolder, number: int) -> str:
    """Rename a chunk's files, beside those that were set aside before. Returns the new name."""
    samples, seconds = (folder.chunks / f"{number:06d}.{ending}" for ending in ("jsonl", "seconds"))
    endings = chain(["bad"], (f"bad_{k}" for k in count(2)))
    bad = next(ending for ending in endings if not samples.with_name(f"{samples.name}.{ending}").exists())
    for path in (samples, seconds):
        with suppress(FileNotFoundError):  # another shard has moved it, or it was never there
            path.replace(path.with_name(f"{path.name}.{bad}"))
    return f"{samples.name}.{bad}"
