"""How hard a model finds each row: stored samples to a pass-rate column, for choosing what to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.formats import ArrowRows
from gmpo_vl.data.rows import Columns, DataError
from gmpo_vl.data.writing import refuse_to_overwrite
from gmpo_vl.samples import SampleRecord
from gmpo_vl.storage.files import whole_file

COLUMN, COUNT = "pass_rate", "pass_samples"


class _Rated(NamedTuple):
    """An example by its index, with its pass rate and the samples that it comes from."""

    index: int
    rate: float | None
    count: int | None


def pass_rates(samples: Iterable[SampleRecord]) -> dict[str, tuple[float, int]]:
    """{question: (share of right samples, how many samples)}, over all samples given (several evaluations may be joined)."""
    right: dict[str, list[bool]] = {}
    for record in samples:
        right.setdefault(record.id, []).append(record.correct)
    return {key: (sum(values) / len(values), len(values)) for key, values in right.items()}


def write_difficulty(
    samples: Iterable[SampleRecord],
    source: str,
    out: Path,
    columns: Columns,
    lowest: float | None = None,
    highest: float | None = None,
) -> tuple[int, int]:
    """Write the source's rows with the columns `pass_rate` and `pass_samples` to OUT (.parquet or .jsonl).

    lowest, highest: keep rows whose rate lies between them, both included; rows without samples are then left out, and have
    nulls otherwise. Returns (rows written, rows with a rate). Raises DataError where no row of the source was ever answered, or
    none is left, and where OUT is what is read.
    """
    if out.suffix not in (".parquet", ".jsonl"):
        raise DataError(f"{out}: write to a file that ends in .parquet or .jsonl")
    low, high = lowest if lowest is not None else 0.0, highest if highest is not None else 1.0
    if not 0 <= low <= high <= 1:
        raise DataError(
            f"pass rates from {low:g} to {high:g}: they lie between 0 and 1, the lowest not above the highest"
        )
    examples = load_examples(source, columns)
    refuse_to_overwrite([out], [table.name for table in examples.tables])
    rates = pass_rates(samples)
    found = [rates.get(key) for key, _, _ in examples.texts()]
    if not any(found):
        raise DataError(
            f"no row of {source} is among the answered questions: its ids begin with {examples[0].id!r}, the samples' with "
            f"{next(iter(rates), None)!r}"
        )
    filtering = lowest is not None or highest is not None
    kept = [i for i, rate in enumerate(found) if (low <= rate[0] <= high if rate else not filtering)]
    if not kept:
        answered = [rate[0] for rate in found if rate]
        raise DataError(
            f"no row has a pass rate from {low:g} to {high:g}: the {len(answered):,} answered ones lie between "
            f"{min(answered):g} and {max(answered):g}"
        )
    rows = [_Rated(i, *(found[i] or (None, None))) for i in kept]
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial:
        (_write_parquet if out.suffix == ".parquet" else _write_jsonl)(examples, rows, partial)
    return len(rows), sum(row.rate is not None for row in rows)


def _write_parquet(examples: Any, rows: list[_Rated], path: Path) -> None:
    """With the columns' own types: a picture column stays one."""
    from datasets import Value, concatenate_datasets

    parts, start = [], 0
    for table in examples.tables:
        if not isinstance(table.rows, ArrowRows):
            raise DataError(f"{table.name}: rows from JSON are written to .jsonl, not to .parquet")
        end = start + len(table.rows)
        mine = [
            (int(examples.rows_K[i]) - start, rate, count)
            for i, rate, count in rows
            if start <= examples.rows_K[i] < end
        ]
        part = table.rows.dataset.with_format(None).select([place for place, _, _ in mine])
        part = part.remove_columns([name for name in (COLUMN, COUNT) if name in part.column_names])
        parts.append(
            part.add_column(COLUMN, [rate for _, rate, _ in mine], feature=Value("float64")).add_column(
                COUNT, [count for _, _, count in mine], feature=Value("int64")
            )
        )
        start = end
    concatenate_datasets(parts).to_parquet(str(path))


def _write_jsonl(examples: Any, rows: list[_Rated], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for index, rate, count in rows:
            table, row = examples.place(index)
            try:
                file.write(
                    json.dumps({**table.rows[row], COLUMN: rate, COUNT: count}, ensure_ascii=False) + "\n"
                )
            except TypeError as error:
                raise DataError(f"{table.name}, row {row}: pictures inside the rows need .parquet") from error
