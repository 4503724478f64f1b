"""Rows in EasyR1's columns written to a parquet file, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gmpo_vl.data.rows import DataError

# Pictures of 64 rows are a few megabytes: what the writer holds, and what a reader reads to see one row. Where the pictures
# are large a group ends earlier.
ROWS_PER_GROUP = 64
BYTES_PER_GROUP = 32 * 2**20


def refuse_to_overwrite(targets: Iterable[Path], read: Iterable[str], ours: Path | None = None) -> None:
    """Raises DataError where a file that is to be written holds what is read, or is none of ours.

    read: files, and folders whose files are read. ours: what lies beside the targets if we wrote them; None: not asked.
    """
    sources = {Path(name).resolve() for name in read}
    for target in targets:
        place = target.resolve()
        if not place.exists():
            continue
        if place in sources or place.parent in sources:
            raise DataError(f"{target} is read here and would be overwritten; write to another place")
        if ours is not None and not ours.exists():
            raise DataError(
                f"{target} is there already, without a {ours.name} beside it: not written by this command. Write to another "
                "folder, or move that file away"
            )


def make_folder(folder: Path) -> None:
    """Make a folder to write into. Raises DataError where a file, or the lack of a right, stands in its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise DataError(f"{folder} is a file; name a folder to write into") from None
    except OSError as error:
        raise DataError(f"{folder}: no folder can be made there ({error.strerror}); name another") from error


def write_parquet(
    path: str | Path, rows: Iterable[Mapping[str, Any]], more_columns: Mapping[str, str] | None = None
) -> int:
    """Write rows {images: [encoded bytes, ...], problem, answer, ...} and return how many.

    more_columns: {name: type as `datasets.Value` names it} of further columns. The `images` column is marked as pictures, so
    that `datasets` and EasyR1 decode it. The file appears under its name only when it is complete.
    """
    count = 0
    with parquet_writer(path, more_columns) as write:
        for row in rows:
            write(row)
            count += 1
    return count


@contextmanager
def parquet_writer(
    path: str | Path, more_columns: Mapping[str, str] | None = None
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """The same for a program that has its rows one by one: gives a function that takes a row."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Image, List, Value

    names = {"problem": "string", "answer": "string", **(more_columns or {})}
    columns = {name: Value(kind) for name, kind in names.items()}
    schema = Features({"images": List(Image()), **columns}).arrow_schema
    path = Path(path)
    make_folder(path.parent)
    unfinished = path.with_name(path.name + ".part")
    group: list[dict[str, Any]] = []
    held = 0

    def flush() -> None:
        nonlocal held
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
        group.clear()
        held = 0

    def write(row: Mapping[str, Any]) -> None:
        nonlocal held
        images = [{"bytes": encoded, "path": None} for encoded in row["images"]]
        group.append({"images": images, **{name: row[name] for name in columns}})
        held += sum(map(len, row["images"]))
        if len(group) == ROWS_PER_GROUP or held >= BYTES_PER_GROUP:
            flush()

    try:
        with pq.ParquetWriter(unfinished, schema) as writer:
            yield write
            flush()
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
