"""Rows in EasyR1's columns written to a parquet file, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Pictures of 64 rows are a few megabytes: what the writer holds, and what a reader reads to see one row.
ROWS_PER_GROUP = 64


def write_parquet(
    path: str | Path, rows: Iterable[Mapping[str, Any]], more_columns: Mapping[str, str] | None = None
) -> int:
    """Write rows {images: [encoded bytes, ...], problem, answer, ...} and return how many.

    more_columns: {name: type as `datasets.Value` names it} of further columns. The `images` column is marked as pictures, so
    that `datasets` and EasyR1 decode it. The file appears under its name only when it is complete.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Image, List, Value

    names = {"problem": "string", "answer": "string", **(more_columns or {})}
    columns = {name: Value(kind) for name, kind in names.items()}
    schema = Features({"images": List(Image()), **columns}).arrow_schema
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    written, group = 0, []

    def as_stored(row: Mapping[str, Any]) -> dict[str, Any]:
        images = [{"bytes": encoded, "path": None} for encoded in row["images"]]
        return {"images": images, **{name: row[name] for name in columns}}

    try:
        with pq.ParquetWriter(unfinished, schema) as writer:
            for row in rows:
                group.append(as_stored(row))
                if len(group) == ROWS_PER_GROUP:
                    writer.write_table(pa.Table.from_pylist(group, schema=schema))
                    written, group = written + len(group), []
            if group:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                written += len(group)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return written
