"""Where rows come from: files, folders, folders of `save_to_disk`, hub ids. Nothing is decoded, little is
held.

A source is, in this order:
    FILE                .parquet, .arrow, .jsonl, .json, .csv, .tsv, .tab, .txt (a table)
    FILE@LIST           the list LIST of a .json file that is one object with several
    FOLDER[@SPLIT]      of `datasets.save_to_disk`, or of such files. Files or subfolders named after a split
                        (train-00000.parquet, test/a.jsonl, vqa_val2014.json) belong to it; the innermost name
                        counts. The default split is train, as in EasyR1. Where no name says a split, the
                        folder is one set. A file that no split takes is told, with its name.
    OWNER/NAME[@SPLIT]  on the hub, by `datasets.load_dataset`

Parquet and arrow go through `datasets`, which keeps a memory-mapped copy in its cache.
"""

from __future__ import annotations

import errno
import glob
import multiprocessing
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gmpo_vl.data.formats import (
    DELIMITERS,
    ArrowRows,
    DelimitedRows,
    ListRows,
    Rows,
    check_arrow,
    check_parquet,
    json_rows,
    no_part,
)
from gmpo_vl.data.rows import DataError, NoTable, RowError
from gmpo_vl.storage.files import free_space, names_a_folder, read_object
from gmpo_vl.storage.places import FULL, hub_obstacle

_ARROW_KINDS = {".parquet": "parquet", ".arrow": "arrow"}
_JSON = (".jsonl", ".json")
_KNOWN = (*_ARROW_KINDS, *_JSON, *DELIMITERS)
SUFFIXES = tuple(suffix for suffix in _KNOWN if suffix != ".txt")  # of the tables in a folder
_SAVED_BY_DATASETS = {"dataset_dict.json", "dataset_info.json", "state.json"}
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "validate", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
_WORD = "|".join(sorted(SPLIT_OF, key=len, reverse=True))
# val2014 is a split; test1k, testmini and minival are parts of one, which a file of the whole may hold again.
_SPLIT_NAME = re.compile(rf"(?P<mini>mini)?(?P<word>{_WORD})(?:\d*|(?P<part>mini|dev|std|val|[ab]|\d+k))")
_SHEETS = (".xlsx", ".xls", ".ods")
_MOST_NAMED = 20  # files that a note names


@dataclass(frozen=True)
class Table:
    """Rows of one file or split. `name` is for messages; ids of rows without one begin with `label`. folder:
    of the file, where names of pictures in it may begin; None for what is no file. notes: how it was read,
    and what of its folder was not.
    """

    name: str
    label: str
    rows: Rows
    folder: Path | None = None
    notes: tuple[str, ...] = ()


def locate(tables: Sequence[Table], number: int) -> tuple[Table, int]:
    """The table that holds row `number`, counted through all tables, and the row's number there."""
    for table in tables:
        if number < len(table.rows):
            return table, number
        number -= len(table.rows)
    raise IndexError(number)


def open_tables(files: str | Sequence[str]) -> list[Table]:
    """The tables of sources. Raises DataError: no such file or split, unknown format, hub out of reach."""
    tables: list[Table] = []
    seen: dict[str, int] = {}
    for source in [files] if isinstance(files, str) else files:
        for table in _open_source(str(source)):
            seen[table.label] = seen.get(table.label, 0) + 1
            label = table.label if seen[table.label] == 1 else f"{table.label}#{seen[table.label]}"
            tables.append(replace(table, label=label))
            for note in table.notes:
                say_once(note)
    if not tables:
        raise DataError("no data file is named")
    return tables


def missing(source: str) -> str | None:
    """What is wrong where a source is neither a file or folder here nor has the form of a hub id."""
    name, _ = _named(source)
    path = Path(name)
    if path.exists() or is_hub_id(name):
        return None
    start = "" if path.is_absolute() else f" (working directory {Path.cwd()})"
    return f"{name}: no such file or folder{start}"


def _named(source: str) -> tuple[str, str | None]:
    """(what is before @SPLIT, the split)"""
    if Path(source).exists() or "@" not in source:
        return source, None
    name, _, split = source.rpartition("@")
    return name, split


def _open_source(source: str) -> list[Table]:
    name, split = _named(source)
    path = Path(name)
    if path.is_file():
        return [_open_file(path, split)]
    if path.is_dir():
        return _open_folder(path, split)
    if (problem := missing(source)) is not None:
        raise DataError(problem)
    return [_open_hub(name, split or "train")]


def is_hub_id(name: str) -> bool:
    """Does it have the form of one? NAME.csv and the like are files."""
    return Path(name).suffix.lower() not in _KNOWN and bool(re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name))


def _open_file(path: Path, part: str | None = None) -> Table:
    suffix = path.suffix.lower()
    if suffix not in _KNOWN:
        hint = "; save the sheet as CSV" if suffix in _SHEETS else ""
        raise DataError(f"{path}: no known format; files end in {', '.join(_KNOWN)}{hint}")
    if path.stat().st_size == 0:
        raise DataError(
            f"{path}: no usable row: the file has 0 bytes, as a copy that failed leaves it. "
            "Make it again, or move it away"
        )
    if suffix in _JSON:
        rows: Rows = json_rows(path, part)
    elif part not in (None, "train"):
        raise no_part(path, part)
    else:
        rows = DelimitedRows(path) if suffix in DELIMITERS else _arrow_rows(path, _ARROW_KINDS[suffix])
    return Table(str(path), path.stem, rows, path.parent, tuple(f"{path}: {note}" for note in rows.notes))


@lru_cache(maxsize=1024)
def say_once(text: str) -> None:
    """To the user, once: worker processes open the same files again."""
    if multiprocessing.parent_process() is None:
        print(text, file=sys.stderr)


def _arrow_rows(path: Path, kind: str) -> Rows:
    import pyarrow.parquet as pq
    from datasets import load_dataset

    try:
        if kind == "parquet" and pq.read_metadata(path).num_rows == 0:
            return ListRows([])  # `datasets` would fail with an error about batch sizes
        check_arrow(path) if kind == "arrow" else check_parquet(path)
        return ArrowRows(load_dataset(kind, data_files=[glob.escape(str(path.resolve()))], split="train"))
    except DataError:
        raise
    except Exception as error:  # whatever pyarrow finds in the file, wrapped by datasets
        _check_cache(error)
        raise DataError(f"{path}: cannot be read as {kind}: {_innermost(error)}") from error


def _open_folder(folder: Path, split: str | None) -> list[Table]:
    splits = saved_splits(folder)
    if splits == [""]:
        if split is not None:
            raise DataError(f"{folder}: one saved data set without splits; leave @{split} away")
        return [_open_saved(folder, folder.name)]
    wanted = split or "train"
    if splits is not None:
        if wanted not in splits:
            raise DataError(
                f"{folder}: no split {wanted!r}; write {folder}@SPLIT, one of {', '.join(splits)}"
            )
        return [_open_saved(folder / wanted, f"{folder.name}@{wanted}")]
    files = sorted(path for path in folder.rglob("*") if _is_data_file(path, folder))
    sheets = [path for path in files if path.suffix.lower() in _SHEETS]
    files = [path for path in files if path not in sheets]
    hint = "; save a sheet as CSV" if sheets else ""
    if not files:
        raise DataError(f"{folder}: no data file in this folder (looked for {', '.join(SUFFIXES)}){hint}")
    tables, notes = _tables_of(_of_split(files, folder, split))
    if unread := sorted([*_of_no_split(files, folder, split), *sheets]):
        named = ", ".join(str(path.relative_to(folder)) for path in unread[:_MOST_NAMED])
        more = f" and {len(unread) - _MOST_NAMED} more" if len(unread) > _MOST_NAMED else ""
        notes.append(f"{folder}: not read: {named}{more}. Where they are wanted, name them as files{hint}")
    return [replace(tables[0], notes=(*tables[0].notes, *notes)), *tables[1:]]


def _tables_of(files: Sequence[Path]) -> tuple[list[Table], list[str]]:
    """The tables among files, and notes of those that are none. Raises DataError where none is one."""
    tables: list[Table] = []
    errors: list[NoTable] = []
    for path in files:
        try:
            tables.append(_open_file(path))
        except NoTable as error:
            errors.append(error)
    if not tables:
        raise errors[0]
    names = set().union(*(_names(table) for table in tables if len(table.rows) > 1))
    others = [t for t in tables if len(t.rows) == 1 and names and names.isdisjoint(_names(t))]
    said = [f"{table.name}: one object, which has no column of the other files" for table in others]
    return [t for t in tables if t not in others], [f"{what}; it is not read" for what in (*errors, *said)]


def _names(table: Table) -> set[str]:
    """The columns of the first row; none where it cannot be read."""
    try:
        return set(table.rows[0])
    except RowError:
        return set()


def saved_splits(folder: Path) -> list[str] | None:
    """The splits of a folder of `save_to_disk`: [""] for one without splits; None for any other folder, or a
    file.

    Raises DataError where the list of splits is damaged.
    """
    path = folder / "dataset_dict.json"
    if not path.is_file():
        return [""] if (folder / "state.json").is_file() else None
    try:
        splits = (read_object(path, "save the data set again", ["splits"]) or {}).get("splits")
    except ValueError as error:
        raise DataError(str(error)) from error
    named = isinstance(splits, list) and all(
        isinstance(name, str) and names_a_folder(name) for name in splits
    )
    if not splits or not named:
        raise DataError(f"{path} is damaged: `splits` is no list of names. To go on, save the data set again")
    return splits


def _open_saved(folder: Path, label: str) -> Table:
    from datasets import load_from_disk

    try:
        saved = load_from_disk(str(folder))
        files: Any = saved.cache_files
        for file in files:
            check_arrow(Path(file["filename"]))
        return Table(str(folder), label, ArrowRows(saved))
    except DataError:
        raise
    except Exception as error:  # a missing or damaged part, in the words of pyarrow
        raise DataError(f"{folder}: not readable as a saved data set: {_innermost(error)}") from error


def _is_data_file(path: Path, folder: Path) -> bool:
    if (
        path.suffix.lower() not in (*SUFFIXES, *_SHEETS)
        or path.name in _SAVED_BY_DATASETS
        or not path.is_file()
    ):
        return False
    return not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)


def _of_split(files: list[Path], folder: Path, split: str | None) -> list[Path]:
    """The files named after the split; all of them if no name says a split and none is asked."""
    named = {path: _split_named(path.relative_to(folder)) for path in files}
    if split is None and all(said is None or said == ("test", True) for said in named.values()):
        return files
    wanted = split or "train"
    if wanted.lower() in SPLIT_OF:
        of_split = [path for path in files if (named[path] or ("",))[0] == SPLIT_OF[wanted.lower()]]
        chosen = [path for path in of_split if named[path] != (SPLIT_OF[wanted.lower()], True)] or of_split
    else:
        words = {path: [word for part in _words(path.relative_to(folder)) for word in part] for path in files}
        chosen = [path for path in files if wanted.lower() in words[path]]
    if not chosen:
        names = ", ".join(path.name for path in files[:10])
        raise DataError(f"{folder}: no file of this folder is named after split {wanted!r}: {names}")
    return chosen


def _of_no_split(files: list[Path], folder: Path, split: str | None) -> list[Path]:
    """The files that neither this split nor any usual one takes."""
    taken = {*_of_split(files, folder, split)}
    for other in _SPLITS:
        if any((_split_named(path.relative_to(folder)) or ("",))[0] == other for path in files):
            taken.update(_of_split(files, folder, other))
    return [path for path in files if path not in taken]


def canonical_split(word: str) -> str | None:
    """train, validation or test for the usual words for them; None for any other."""
    return SPLIT_OF.get(word.strip().lower())


def splits_in(folder: Path) -> list[str]:
    """The splits that a folder's data set or the names of its files say; empty for one set."""
    saved = saved_splits(folder)
    if saved is not None:
        return [split for split in saved if split]
    files = [path.relative_to(folder) for path in folder.rglob("*") if _is_data_file(path, folder)]
    found = {said[0] for path in files if (said := _split_named(path)) is not None}
    return [split for split in _SPLITS if split in found]


def parts_in(folder: Path) -> list[str]:
    """The words by which files of a folder say that they are a part of a split, such as testmini."""
    if saved_splits(folder) is not None:
        return []
    files = [path.relative_to(folder) for path in folder.rglob("*") if _is_data_file(path, folder)]
    named = [path for path in files if (_split_named(path) or ("", False))[1]]
    found = {word for path in named for part in _words(path) for word in part if _is_part(word)}
    return sorted(found)


def _is_part(word: str) -> bool:
    match = _SPLIT_NAME.fullmatch(word)
    return match is not None and bool(match["mini"] or match["part"])


def _split_named(path: Path) -> tuple[str, bool] | None:
    """(the split that the innermost name of a path says first, whether only a part of it is meant)."""
    for words in reversed(_words(path)):
        for word in words:
            if match := _SPLIT_NAME.fullmatch(word):
                return SPLIT_OF[match["word"]], bool(match["mini"] or match["part"])
    return None


def _words(path: Path) -> list[list[str]]:
    """The words of every part of a path: train-00000-of-00002.parquet says train first."""
    return [re.split(r"[^a-z0-9]+", part.lower()) for part in path.with_suffix("").parts]


def _open_hub(name: str, split: str) -> Table:
    from datasets import load_dataset
    from huggingface_hub import try_to_load_from_cache

    obstacle = hub_obstacle(name, "dataset")
    if obstacle is not None and try_to_load_from_cache(name, "README.md", repo_type="dataset") is None:
        raise DataError(
            f"{name}: there is no such file or folder here, and the hub cannot be reached ({obstacle}): "
            "download the data set elsewhere and give its path. Where a cache holds it: HF_HOME says where, "
            "HF_HUB_OFFLINE=1 reads it"
        )
    try:
        dataset = load_dataset(name, split=split)
    except Exception as error:  # no network, no such repository or split, a gated one: all end here
        _check_cache(error)
        raise DataError(
            f"{name}: there is no such file or folder here, and the hub did not give it: "
            f"{_innermost(error)}. Without a network: download the data set elsewhere and give its path, "
            "or point HF_HOME to a cache that holds it."
        ) from error
    return Table(f"{name}@{split}", f"{name.split('/')[-1]}@{split}", ArrowRows(dataset))


def _check_cache(error: BaseException) -> None:
    """Raise OSError where the disk of `datasets`' cache is full: nothing is wrong with the source then."""
    from datasets import config

    first = _first(error)
    if getattr(first, "errno", None) in FULL or "Not enough disk space" in str(first):
        cache = Path(config.HF_DATASETS_CACHE)
        said = f"{os.strerror(errno.ENOSPC)}, {free_space(cache)}; HF_DATASETS_CACHE names another folder"
        raise OSError(errno.ENOSPC, said, str(cache)) from error


def _innermost(error: BaseException) -> str:
    first = _first(error)
    return f"{type(first).__name__}: {' '.join(str(first).split())[:400]}"


def _first(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
