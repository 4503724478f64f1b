"""Grading files: pairs of gold and response to verdicts, and whether a data set's golds verify against themselves.

`gmpo-vl grade PAIRS.jsonl --out VERDICTS.jsonl` and `gmpo-vl grade --self-check DATASET` call these.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gmpo_vl.verify import Profile, Verdict, parse_gold, verify, verify_batch

CHUNK = 2_000  # pairs held at a time


def grade_file(
    pairs: str | Path, out: str | Path, profile: Profile = "strict", workers: int = 0
) -> Counter[str]:
    """Grade every line of `pairs` and write one verdict a line to `out`, in the same order; return counts of outcomes.

    In: `gold` (text, number, or list of alternatives), `response`, and optionally `id` and `benchmark`; other keys are not
        read.
    Out: `id`, `correct`, `extracted`, `gold_type`, `outcome`, `seconds`. The counts also have `correct` and `total`.
    Raises ValueError naming file and line for a line that is no such pair.
    """
    if workers < 0:
        raise ValueError(
            f"workers={workers} cannot be: it is the number of processes for undecided answers, 0 for none"
        )
    if Path(pairs).resolve() == Path(out).resolve():
        raise ValueError(f"the verdicts would overwrite the pairs: both are {pairs}")
    counts: Counter[str] = Counter()
    partial = Path(f"{out}.partial")  # a bad line leaves an earlier result as it was
    with partial.open("w", encoding="utf-8") as file:
        for rows in _chunks(_pairs(Path(pairs))):
            golds, responses = [row["gold"] for row in rows], [row["response"] for row in rows]
            benchmarks = [str(row.get("benchmark", "")) for row in rows]
            for row, verdict in zip(
                rows, verify_batch(golds, responses, profile, benchmark=benchmarks, workers=workers)
            ):
                file.write(json.dumps(_record(row, verdict), ensure_ascii=False) + "\n")
                counts.update([verdict.outcome, "total", *(["correct"] if verdict.correct else [])])
    partial.replace(out)
    return counts


def self_check(dataset_path: str | Path, profile: Profile = "strict") -> list[tuple[int, str, str]]:
    """(row, gold, outcome) of every gold that does not verify against itself; an empty list is what a data set should give.

    dataset_path: a .jsonl, .json or .parquet file with a column `answer` (or `gold`), or a folder written by
    `datasets.save_to_disk`, whose rows are counted through all splits.
    """
    failures = []
    for row, gold in enumerate(_golds(Path(dataset_path))):
        try:
            spec = parse_gold(gold)
        except ValueError as error:
            failures.append((row, str(gold), str(error)))
            continue
        if spec.type == "countdown":  # the gold is a target, not an answer
            continue
        for alternative in spec.alternatives:
            verdict = verify(spec, f"\\boxed{{{alternative}}}", profile)
            if not verdict.correct:
                failures.append((row, alternative, verdict.outcome))
    return failures


def summary(counts: Counter[str]) -> str:
    """The counts as people read them: `812 of 1755 correct (46.3%); equal 812, different 700, ...`."""
    total = counts["total"]
    outcomes = ", ".join(
        f"{name} {n}" for name, n in counts.most_common() if name not in ("total", "correct")
    )
    share = f" ({counts['correct'] / total:.1%})" if total else ""
    return f"{counts['correct']} of {total} correct{share}; {outcomes or 'no pairs'}"


def _record(row: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    return {
        "id": row["id"],
        "correct": verdict.correct,
        "extracted": verdict.extracted,
        "gold_type": verdict.gold_type,
        "outcome": verdict.outcome,
        "seconds": round(verdict.seconds, 6),
    }


def _pairs(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _checked(line, f"{path}, line {number}", number)


def _checked(line: str, where: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: no JSON ({error})") from error
    if not isinstance(row, dict) or "gold" not in row or not isinstance(row.get("response"), str):
        raise ValueError(
            f"{where}: a pair is an object with `gold` and a text `response`; it has {_described(row)}"
        )
    if not isinstance(row["gold"], str | int | float | list):
        raise ValueError(
            f"{where}: the gold is {row['gold']!r}; it is a text, a number or a list of alternatives"
        )
    try:
        parse_gold(row["gold"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return {"id": number - 1, **row}


def _described(row: Any) -> str:
    return f"the keys {sorted(row)}" if isinstance(row, dict) else f"a {type(row).__name__}"


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _golds(path: Path) -> Iterator[Any]:
    if path.is_dir():
        from datasets import Dataset, load_from_disk

        loaded = load_from_disk(str(path))
        splits = [loaded] if isinstance(loaded, Dataset) else list(loaded.values())
        for split in splits:
            yield from split[_column(split.column_names, path)]
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        column = _column(pyarrow.parquet.read_schema(path).names, path)
        yield from pyarrow.parquet.read_table(path, columns=[column]).column(column).to_pylist()
    elif path.suffix in (".jsonl", ".json"):
        text = path.read_text(encoding="utf-8")
        rows = (
            json.loads(text)
            if path.suffix == ".json"
            else [json.loads(line) for line in text.splitlines() if line.strip()]
        )
        for row in rows:
            yield row[_column(list(row), path)]
    else:
        raise ValueError(
            f"{path} is no data set: give a .jsonl, .json or .parquet file, or a folder of datasets.save_to_disk"
        )


def _column(names: list[str], path: Path) -> str:
    found = [name for name in ("answer", "gold") if name in names]
    if not found:
        raise ValueError(f"{path} has no column `answer` or `gold`; it has {names}")
    return found[0]
