"""Is all of a parquet or arrow file read? Their readers stop at the first end they find and say nothing of what follows."""

from __future__ import annotations

import mmap
from pathlib import Path

from gmpo_vl.data.rows import DataError

_ARROW_MAGIC, _ARROW_FILE_START = b"ARROW1", 8  # the magic filled up to a multiple of 8
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def check_arrow(path: Path) -> None:
    """Raises DataError for a stream that was cut between two batches, or that something follows. Reads no column."""
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
        if is_file:  # a footer, its length and the magic end it
            file.seek(size - 10)
            end += int.from_bytes(file.read(4), "little") + 10
        if end != size:
            raise DataError(_more_follows(path, "arrow", end, size))


def check_parquet(path: Path) -> None:
    """Raises DataError for a file that another one stands in front of: only the last one's footer is read."""
    import pyarrow.parquet as pq

    facts, size = pq.read_metadata(path), path.stat().st_size
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    end = max((_start(column) + column.total_compressed_size for column in columns), default=0)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # Between the columns and the footer stand indices, where they were written, and no other file's end.
        seam = content.find(b"PAR1PAR1", end)
    if seam >= 0:
        raise DataError(_more_follows(path, "parquet", seam + 4, size))


def _start(column: object) -> int:
    offsets = (column.dictionary_page_offset, column.data_page_offset)  # type: ignore[attr-defined]
    return min(offset for offset in offsets if offset is not None)


def _more_follows(path: Path, kind: str, end: int, size: int) -> str:
    return (
        f"{path}: the {kind} file ends at byte {end:,} of {size:,}: what follows would be lost. Were several files put together? "
        "Name their folder instead"
    )
