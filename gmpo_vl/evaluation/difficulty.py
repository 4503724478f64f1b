"""How hard a model finds each row: stored samples to a pass-rate column, for choosing what to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gmpo_vl.data.examples import ExampleSet, load_examples
from gmpo_vl.data.formats import ArrowRows
from gmpo_vl.data.rows import Columns, DataError
from gmpo_vl.data.writing import refuse_to_overwrite
from gmpo_vl.samples import SampleRecord, episodes
from gmpo_vl.storage.files import whole_file

RATE, COUNT = "pass_rate", "pass_samples"  # the columns


class _Rated(NamedTuple):
    """An example by its index, with its pass rate and the number of samples behind it."""

    index: int
    rate: float | None
    count: int | None


def pass_rates(samples: Iterable[SampleRecord]) -> dict[str, tuple[float, int]]:
    """{question: (share of right samples, how many samples)}, over all samples given. Of games: of won
    episodes."""
    right: dict[str, list[bool]] = {}
    for turns in episodes(samples):
        right.setdefault(turns[-1].id, []).append(turns[-1].correct)
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

    samples: of one or several evaluations. lowest, highest: keep rows whose rate lies between them, both
    included; rows without samples are then left out, and have nulls otherwise. Returns (rows written, rows
    with a rate). Raises DataError where no row was ever answered or none is left, or OUT is the source.
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
    found = [_Rated(i, *rates.get(key, (None, None))) for i, (key, _, _) in enumerate(examples.texts())]
    answered = [row.rate for row in found if row.rate is not None]
    if not answered:
        raise DataError(
            f"no row of {source} is among the answered questions: its ids begin with {examples[0].id!r}, "
            f"the samples' with {next(iter(rates), None)!r}"
        )
    filtering = lowest is not None or highest is not None
    rows = [row for row in found if (not filtering if row.rate is None else low <= row.rate <= high)]
    if not rows:
        raise DataError(
            f"no row has a pass rate from {low:g} to {high:g}: the {len(answered):,} answered ones lie "
            f"between {min(answered):g} and {max(answered):g}"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial:
        (_write_parquet if out.suffix == ".parquet" else _write_jsonl)(examples, rows, partial)
    return len(rows), sum(row.rate is not None for row in rows)


def _write_parquet(examples: ExampleSet, rows: list[_Rated], path: Path) -> None:
    """With the columns' own types: a picture column stays one."""
    from datasets import Value, concatenate_datasets

    parts, start = [], 0
    for table in examples.tables:
        if not isinstance(table.rows, ArrowRows):
            raise DataError(f"{table.name}: rows from JSON are written to .jsonl, not to .parquet")
        end = start + len(table.rows)
        mine = [row for row in rows if start <= examples.rows_K[row.index] < end]
        places = [int(examples.rows_K[row.index]) - start for row in mine]
        part = table.rows.dataset.with_format(None).select(places)
        part = part.remove_columns([name for name in (RATE, COUNT) if name in part.column_names])
        part = part.add_column(RATE, [row.rate for row in mine], feature=Value("float64"))
        parts.append(part.add_column(COUNT, [row.count for row in mine], feature=Value("int64")))
        start = end
    concatenate_datasets(parts).to_parquet(str(path))


def _write_jsonl(examples: ExampleSet, rows: list[_Rated], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for index, rate, count in rows:
            table, row = examples.place(index)
            try:
                line = json.dumps({**table.rows[row], RATE: rate, COUNT: count}, ensure_ascii=False)
            except TypeError as error:
                raise DataError(f"{table.name}, row {row}: pictures inside the rows need .parquet") from error
            file.write(f"{line}\n")
