"""Rows in EasyR1's columns written to a parquet file, a few at a time; files that belong together appear together."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmpo_vl.data.rows import DataError
from gmpo_vl.files import move_aside, read_object, sync, write_json

# Pictures of 64 rows are a few megabytes: what the writer holds, and what a reader reads to see one row. Where the pictures
# are large a group ends earlier.
ROWS_PER_GROUP = 64
BYTES_PER_GROUP = 32 * 2**20

UNFINISHED = ".unfinished"
_PLAN = "plan.json"  # in that folder: {files: their names in the order of the moves, replaces: names that go}


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


@dataclass
class NewFiles:
    """Files on their way: write them into `folder`. replaces: names in the target folder that go when they come."""

    folder: Path
    replaces: list[str] = field(default_factory=list)


@contextmanager
def replacing(out: Path, last: str | None = None) -> Iterator[NewFiles]:
    """Files that appear in OUT together when the block ends, in place of those of the same names; none if it fails.

    They are written into OUT/.unfinished and then moved, the file `last` (it says what the others are) behind all others.
    What is replaced goes before the first new file comes, so that OUT never holds a part of both. A process that is killed
    between the moves leaves a plan, by which the next call goes on with them. Raises DataError where another process
    writes into OUT.
    """
    make_folder(out)
    with _alone_in(out):
        folder = out / UNFINISHED
        if (folder / _PLAN).exists():
            _move(out)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            new = NewFiles(folder)
            yield new
            names = sorted((path.name for path in folder.iterdir()), key=lambda name: (name == last, name))
            for name in names:
                sync(folder / name)
            found = {name: _stamp(out / name) for name in (*names, *new.replaces)}
            write_json(folder / _PLAN, {"files": names, "replaces": new.replaces, "found": found})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _move(out)


def _move(out: Path) -> None:
    """Do what the plan says and has not been done yet."""
    folder = out / UNFINISHED
    plan = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    files = plan["files"]
    for name in [*reversed(files), *plan["replaces"]]:
        if name not in files or (folder / name).exists():  # otherwise the new one is in its place
            _make_way(out, name)
    for name in files:
        if (folder / name).exists():
            os.replace(folder / name, out / name)
    sync(out)
    shutil.rmtree(folder)


def _make_way(out: Path, name: str) -> None:
    """Remove a file that is replaced. One that was put there after a kill is not what the plan found, and is renamed."""
    found = (read_object(out / UNFINISHED / _PLAN) or {}).get("found", {})
    if found.get(name) == _stamp(out / name):
        (out / name).unlink(missing_ok=True)
    elif os.path.lexists(out / name):
        move_aside(out / name)


def _stamp(path: Path) -> list[int] | None:
    """What tells a file from another one under its name; None where there is none."""
    if not os.path.lexists(path):
        return None
    found = path.lstat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes of this kind out of a folder. The kernel holds the lock: a killed process leaves none."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataError(
            f"{folder}: another process is writing data into this folder; wait for it, or name another folder"
        ) from None
    except OSError as error:  # some network file systems have no locks for folders
        print(
            f"WARNING: {folder} cannot be locked ({error.strerror}): keep other writers out", file=sys.stderr
        )
    try:
        yield
    finally:
        os.close(descriptor)


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
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
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
