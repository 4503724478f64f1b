"""Parquet and arrow, through `datasets`; files that were cut or put together are refused."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from gmpo_vl.data.class_labels import class_names, has_classes
from gmpo_vl.data.formats.rows import Row
from gmpo_vl.data.rows import DataError, RowError

_ARROW_MAGIC, _ARROW_FILE_START = b"ARROW1", 8  # the magic is padded to a multiple of 8
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class ArrowRows:
    """A `datasets.Dataset` read as arrow. Pictures stay encoded, and a scan does not read their bytes."""

    notes: tuple[str, ...] = ()

    def __init__(self, dataset: Any):
        self.dataset = dataset.with_format("arrow")
        self.columns: list[str] = list(dataset.column_names)
        self._classes = {n: f for n, f in dataset.features.items() if has_classes(f)}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int, /) -> Row:
        row = self.dataset[index].to_pylist()[0]
        return row | {name: class_names(row[name], feature) for name, feature in self._classes.items()}

    def scan(self, columns: Sequence[str]) -> Iterator[Row | RowError]:
        present = [name for name in dict.fromkeys(columns) if name in self.columns]
        if not present:
            yield from ({} for _ in range(len(self)))
            return
        for batch in self.dataset.select_columns(present).iter(batch_size=1000):
            scanned = [chain.from_iterable(map(_scanned, batch.column(name).chunks)) for name in present]
            classes = [(name, self._classes[name]) for name in present if name in self._classes]
            for values in zip(*scanned, strict=True):
                row = dict(zip(present, values, strict=True))
                yield row | {name: class_names(row[name], feature) for name, feature in classes}


def _scanned(values: Any) -> list[Any]:
    """An arrow array as Python values. Of bytes only the length is read; arrow stores it apart."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        lengths = pc.call_function("binary_length", [values]).to_pylist()
        return [None if n is None else b"x"[:n] for n in lengths]
    if pa.types.is_struct(values.type) and values.type.num_fields > 0:
        names = [field.name for field in values.type]
        rows = zip(values.is_valid().to_pylist(), *map(_scanned, values.flatten()), strict=True)
        return [dict(zip(names, row, strict=True)) if valid else None for valid, *row in rows]
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        items = iter(_scanned(values.flatten()))
        lengths = pc.call_function("list_value_length", [values]).to_pylist()
        return [None if n is None else list(islice(items, n)) for n in lengths]
    return values.to_pylist()


def check_arrow(path: Path) -> None:
    """Raises DataError for a stream that was cut between two batches, or that is followed by more bytes.

    The reader itself stops at the first end that it finds, without an error. Reads no column.
    """
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        is_file = file.read(len(_ARROW_MAGIC)) == _ARROW_MAGIC
        file.seek(-len(_ARROW_MAGIC), 2)
        if is_file and file.read() != _ARROW_MAGIC:
            raise DataError(
                f"{path}: the file is cut, or something follows it: it does not end as an arrow file"
            )
        file.seek(_ARROW_FILE_START if is_file else 0)
        for _ in pa.ipc.open_stream(file):
            pass
        end, size = file.tell(), file.size()
        file.seek(max(0, end - len(_END_OF_STREAM)))
        if file.read(len(_END_OF_STREAM)) != _END_OF_STREAM:
            raise DataError(f"{path}: the file is cut: it has no end mark. Fetch or write it again")
        if is_file:  # at its end: a footer, the footer's length, and the magic
            file.seek(size - 10)
            end += int.from_bytes(file.read(4), "little") + 10
        if end != size:
            raise _more_follows(path, "arrow", end, size)


def check_parquet(path: Path) -> None:
    """Raises DataError for two parquet files in one: the reader looks at the footer of the last one only."""
    import pyarrow.parquet as pq

    facts, size = pq.read_metadata(path), path.stat().st_size
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    end = max((_start(column) + column.total_compressed_size for column in columns), default=0)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # Indices may stand between the columns and the footer, but never the end of another file.
        seam = content.find(b"PAR1PAR1", end)
    if seam >= 0:
        raise _more_follows(path, "parquet", seam + 4, size)


def _start(column: Any) -> int:
    offsets = (column.dictionary_page_offset, column.data_page_offset)
    return min(offset for offset in offsets if offset is not None)


def _more_follows(path: Path, kind: str, end: int, size: int) -> DataError:
    return DataError(
        f"{path}: the {kind} file ends at byte {end:,} of {size:,}: what follows would be lost. "
        "Were several files put together? Name their folder instead"
    )
