"""Rows in EasyR1's columns to parquet, a few at a time; files that belong together appear together."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from gmpo_vl.data.rows import DataError
from gmpo_vl.storage.files import move_aside, names_a_folder, read_object, sync, whole_file, write_json
from gmpo_vl.storage.locks import try_lock
from gmpo_vl.storage.yaml_text import shown

# The writer holds a group, and a reader reads one to see a row. The pictures of 64 rows are a few megabytes;
# where they are large, a group ends earlier.
ROWS_PER_GROUP = 64
BYTES_PER_GROUP = 32 * 2**20

# A further column's type: as `datasets.Value` names it, or a feature of `datasets` (a list, a struct).
ColumnType: TypeAlias = Any

UNFINISHED = ".unfinished"
_PLAN = "plan.json"  # in that folder: {files: their names in the order of the moves, replaces: names that go}


def refuse_to_overwrite(targets: Iterable[Path], read: Iterable[str], ours: Path | None = None) -> None:
    """Raises DataError where a file that is to be written holds what is read, or is none of ours.

    read: files, and folders whose files are read. ours: a file that lies beside the targets if this command
    wrote them.
    """
    sources = {Path(name).resolve() for name in read}
    for target in targets:
        place = target.resolve()
        if not place.exists():
            continue
        if place.is_dir():
            raise DataError(f"{target} is a folder, in the place of a file to write; move it away")
        if place in sources or place.parent in sources:
            raise DataError(f"{target} is read here and would be overwritten; write to another place")
        if ours is not None and not ours.exists():
            raise DataError(
                f"{target} is there already, without a {ours.name} beside it: not written by this command. "
                "Write to another folder, or move that file away"
            )


def make_output_folder(folder: Path) -> None:
    """Make a folder to write into. Raises DataError where a file or a missing right prevents it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise DataError(f"{folder} is a file; name a folder to write into") from None
    except OSError as error:
        raise DataError(f"{folder}: no folder can be made there ({error.strerror}); name another") from error


@dataclass
class NewFiles:
    """Files on their way: write them into `folder`. replaces: old files in the target that are removed."""

    folder: Path
    replaces: list[str] = field(default_factory=list)


@contextmanager
def replacing(out: Path, last: str | None = None) -> Iterator[NewFiles]:
    """Files that appear in OUT together when the block ends, in place of those of the same names; none if it
    fails.

    They are written into OUT/.unfinished and then moved; the file `last`, which describes the others, comes
    last. The old files are removed before the first new one is moved, so OUT never holds a part of both. A
    process that is killed between the moves leaves a plan, and the next call finishes it. Raises DataError
    where another process writes into OUT.
    """
    with _made(out), _alone_in(out):
        folder = out / UNFINISHED
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise DataError(f"{folder} is no folder of this command; move it away")
        if os.path.lexists(folder / _PLAN):
            _move(out)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            new = NewFiles(folder)
            yield new
            names = sorted((path.name for path in folder.iterdir()), key=lambda name: (name == last, name))
            if problem := _fault_of_files(out, names, new.replaces):
                raise DataError(f"{problem}; move it away")
            for name in names:
                sync(folder / name)
            found = {name: _stamp(out / name) for name in (*names, *new.replaces)}
            write_json(folder / _PLAN, {"files": names, "replaces": new.replaces, "found": found})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _move(out)


@contextmanager
def _made(out: Path) -> Iterator[None]:
    """The folder, made where there is none; folders that were made here go again if the block fails."""
    missing = [path for path in (out, *out.parents) if not os.path.lexists(path)]
    make_output_folder(out)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # somebody else has put something there
            for path in missing:
                path.rmdir()
        raise


def _move(out: Path) -> None:
    """Do the part of the plan that is not done yet."""
    folder = out / UNFINISHED
    files, replaces, found = _planned(out)
    for name in [*reversed(files), *replaces]:
        if name not in files or (folder / name).exists():  # otherwise the new one is in its place
            _make_way(out / name, _stamp(out / name) if found is None else found.get(name))
    for name in files:
        if (folder / name).exists():
            os.replace(folder / name, out / name)
    sync(out)
    shutil.rmtree(folder)


def _make_way(path: Path, found: Any) -> None:
    """Remove a replaced file. One that somebody put there after a kill is not in the plan: rename it."""
    if found == _stamp(path):
        path.unlink(missing_ok=True)
    elif os.path.lexists(path):
        move_aside(path)


def _stamp(path: Path) -> list[int] | None:
    """What differs for another file under the same name; None where there is no file."""
    if not os.path.lexists(path):
        return None
    found = path.lstat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _planned(out: Path) -> tuple[list[str], list[str], dict[str, Any] | None]:
    """(files, replaces, found) of the plan; earlier versions wrote no `found`.

    Raises DataError, before anything is touched, for a plan that no killed process has left.
    """
    path = out / UNFINISHED / _PLAN
    advice = f"delete the folder {path.parent} and write the data again"
    try:
        plan = read_object(path, advice, ("files", "replaces")) or {}
    except ValueError as error:
        raise DataError(str(error)) from error
    files, replaces, found = plan["files"], plan["replaces"], plan.get("found")
    problem = _fault_of_names(files) or _fault_of_names(replaces) or _fault_of_files(out, files, replaces)
    if problem is None and not isinstance(found, dict | None):
        problem = f"{shown(found)} is no object"
    if problem is not None:
        raise DataError(f"{path} is damaged: {problem}. To go on, {advice}")
    return files, replaces, found


def _fault_of_names(names: Any) -> str | None:
    """Why these are no names of files in one folder; None where they are."""
    if not isinstance(names, list):
        return f"{shown(names)} is no list of names"
    for name in names:
        is_name = isinstance(name, str) and names_a_folder(name) and name == Path(name).name
        if not is_name or name in (UNFINISHED, _PLAN):
            return f"{shown(name)} is no name of a file in the folder"
    return None


def _fault_of_files(out: Path, files: list[str], replaces: list[str]) -> str | None:
    """Why no kill between the moves, which go in order, can have left these files; None where one can."""
    came = [not os.path.lexists(out / UNFINISHED / name) for name in files]
    lost = [name for name, moved in zip(files, came) if moved and not (out / name).is_file()]
    if lost or came != sorted(came, reverse=True):
        return f"{shown(lost[0] if lost else files[came.index(False)])} is not where it was left"
    places = [*(out / UNFINISHED / name for name in files), *(out / name for name in [*files, *replaces])]
    return next((f"{place} is a folder" for place in places if place.is_dir()), None)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep such processes out of a folder. The kernel holds the lock: a killed process leaves none."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if (problem := try_lock(descriptor)) is not None:  # some network file systems cannot lock folders
            print(f"WARNING: {folder} cannot be locked ({problem}): keep other writers out", file=sys.stderr)
    except BlockingIOError:
        os.close(descriptor)
        raise DataError(
            f"{folder}: another process is writing data into this folder; wait for it, or name another folder"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def write_parquet(
    path: str | Path, rows: Iterable[Mapping[str, Any]], more_columns: Mapping[str, ColumnType] | None = None
) -> int:
    """Write rows {images: [encoded bytes, ...], problem, answer, ...} and return how many.

    more_columns: {name: its ColumnType} of further columns. The `images` column is marked
    as pictures, so `datasets` and EasyR1 decode it. The file appears under its name only when it is complete.
    """
    count = 0
    with parquet_writer(path, more_columns) as write:
        for row in rows:
            write(row)
            count += 1
    return count


def write_splits(
    folder: str | Path,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    more_columns: Mapping[str, ColumnType],
) -> list[Path]:
    """Write FOLDER/SPLIT.parquet of every split's rows, all files or none; returns the files."""
    names = [f"{split}.parquet" for split in splits]
    with replacing(Path(folder)) as new:
        for name, rows in zip(names, splits.values()):
            write_parquet(new.folder / name, rows, more_columns)
    return [Path(folder) / name for name in names]


@contextmanager
def parquet_writer(
    path: str | Path, more_columns: Mapping[str, ColumnType] | None = None
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """As `write_parquet`, for rows that come one by one: gives a function that takes a row."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Image, List, Value

    names = {"problem": "string", "answer": "string", **(more_columns or {})}
    columns = {name: Value(kind) if isinstance(kind, str) else kind for name, kind in names.items()}
    schema = Features({"images": List(Image()), **columns}).arrow_schema
    path = Path(path)
    make_output_folder(path.parent)
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

    with whole_file(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        yield write
        flush()
