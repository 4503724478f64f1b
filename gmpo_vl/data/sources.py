"""Where rows come from: files, folders, folders of `save_to_disk`, hub ids. Nothing is decoded, little is held.

A source is, in this order:
    FILE                    .parquet, .arrow, .jsonl, .json, .csv, .tsv
    FOLDER[@SPLIT]          of `datasets.save_to_disk`, or of such files. Files or subfolders named after a split (train-00000.parquet,
                            test/a.jsonl) belong to it; the default split is train, as in EasyR1. Where no name says a split,
                            the folder is one set.
    OWNER/NAME[@SPLIT]      on the hub, by `datasets.load_dataset`
Parquet and arrow go through `datasets`, which keeps a memory-mapped copy in its cache; rows of JSON and CSV are found by offset
and parsed when asked for, so that one broken line or a column of mixed types costs that row only.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from gmpo_vl.data.csv_rows import DELIMITERS, CsvRows
from gmpo_vl.data.hub import hub_obstacle
from gmpo_vl.data.json_rows import JsonArray, JsonLines, as_object, row_or_error
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.data.whole_files import check_arrow, check_parquet
from gmpo_vl.storage.files import names_a_folder, read_object

_ARROW_KINDS = {".parquet": "parquet", ".arrow": "arrow"}
SUFFIXES = (*_ARROW_KINDS, ".jsonl", ".json", *DELIMITERS)
_SAVED_BY_DATASETS = {"dataset_dict.json", "dataset_info.json", "state.json"}
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_CANONICAL = {word: split for split, words in _SPLITS.items() for word in words}


class Rows(Protocol):
    """Random access to rows; `scan` yields them in order, RowError in place of a row that cannot be read.

    A scanned row holds at least those of the asked columns that exist; of bytes it may hold the first one only.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...
    def scan(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any] | RowError]: ...


@dataclass(frozen=True)
class Table:
    """Rows of one file or split. `name` is for messages, `label` the beginning of the ids of rows without one."""

    name: str
    label: str
    rows: Rows


def locate(tables: Sequence[Table], number: int) -> tuple[Table, int]:
    """The table that holds row `number`, counted through all tables, and the row's number there."""
    for table in tables:
        if number < len(table.rows):
            return table, number
        number -= len(table.rows)
    raise IndexError(number)


class ArrowRows:
    """A `datasets.Dataset`, read as arrow: its Image columns stay encoded, and a scan touches no picture's bytes."""

    def __init__(self, dataset: Any):
        self.dataset = dataset.with_format("arrow")
        self.columns: list[str] = list(dataset.column_names)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        return self.dataset[index].to_pylist()[0]

    def scan(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any] | RowError]:
        present = [name for name in dict.fromkeys(columns) if name in self.columns]
        if not present:
            yield from ({} for _ in range(len(self)))
            return
        for batch in self.dataset.select_columns(present).iter(batch_size=1000):
            columns_of_batch = [_scanned_column(batch.column(name)) for name in present]
            for values in zip(*columns_of_batch, strict=True):
                yield dict(zip(present, values, strict=True))


def _scanned_column(column: Any) -> Iterator[Any]:
    for chunk in column.chunks:
        yield from _scanned(chunk)


def _scanned(array: Any) -> list[Any]:
    """An arrow array as Python's values, without reading encoded pictures: their lengths stand apart from them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        return [
            None if n is None else b"x"[:n] for n in pc.call_function("binary_length", [array]).to_pylist()
        ]
    if pa.types.is_struct(array.type) and array.type.num_fields > 0:
        names = [field.name for field in array.type]
        rows = zip(*map(_scanned, array.flatten()), strict=True)
        valid = array.is_valid().to_pylist()
        return [
            dict(zip(names, row, strict=True)) if ok else None for ok, row in zip(valid, rows, strict=True)
        ]
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        items = iter(_scanned(array.flatten()))
        lengths = pc.call_function("list_value_length", [array])
        return [None if n is None else list(islice(items, n)) for n in lengths.to_pylist()]
    return array.to_pylist()


class ListRows:
    """Rows that a program holds."""

    def __init__(self, rows: Sequence[Any]):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        return as_object(self._rows[index])

    def scan(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any] | RowError]:
        for i in range(len(self)):
            yield row_or_error(lambda i=i: self[i])


def open_tables(files: str | Sequence[str]) -> list[Table]:
    """The tables of one source or several. Raises DataError: no such file or split, unknown format, hub out of reach."""
    tables: list[Table] = []
    seen: dict[str, int] = {}
    for source in [files] if isinstance(files, str) else files:
        for table in _open_source(str(source)):
            seen[table.label] = seen.get(table.label, 0) + 1
            label = table.label if seen[table.label] == 1 else f"{table.label}#{seen[table.label]}"
            tables.append(Table(table.name, label, table.rows))
    if not tables:
        raise DataError("no data file is named")
    return tables


def _open_source(source: str) -> list[Table]:
    name, split = source, None
    if not Path(source).exists() and "@" in source:
        name, _, split = source.rpartition("@")
    path = Path(name)
    if path.is_file():
        if split not in (None, "train"):
            raise DataError(f"{name}: a single file has no split {split!r}; leave @{split} away")
        return [_open_file(path)]
    if path.is_dir():
        return _open_folder(path, split)
    if not is_hub_id(name):
        start = "" if path.is_absolute() else f" (working directory {Path.cwd()})"
        raise DataError(f"{name}: no such file or folder{start}")
    return [_open_hub(name, split or "train")]


def is_hub_id(name: str) -> bool:
    """Could it be one, by its form? NAME.csv and the like are files."""
    return Path(name).suffix.lower() not in SUFFIXES and bool(re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name))


def _open_file(path: Path) -> Table:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES and path.stat().st_size == 0:
        raise DataError(
            f"{path}: no usable row: the file has 0 bytes, as a copy that failed leaves it. Make it again, or move it away"
        )
    if suffix == ".jsonl" or (suffix == ".json" and not _is_json_array(path)):
        return Table(str(path), path.stem, JsonLines(path))
    if suffix == ".json":
        return Table(str(path), path.stem, JsonArray(path))
    if suffix in DELIMITERS:
        return Table(str(path), path.stem, CsvRows(path))
    if suffix not in _ARROW_KINDS:
        raise DataError(f"{path}: no known format; files end in {', '.join(SUFFIXES)}")
    from datasets import load_dataset

    kind = _ARROW_KINDS[suffix]
    try:
        if kind == "parquet" and _is_empty_parquet(
            path
        ):  # `datasets` fails on it with an error about batch sizes
            return Table(str(path), path.stem, ListRows([]))
        check_arrow(path) if kind == "arrow" else check_parquet(path)
        dataset = load_dataset(kind, data_files=[glob.escape(str(path.resolve()))], split="train")
    except DataError:
        raise
    except Exception as error:  # whatever pyarrow finds in the file, wrapped by datasets
        raise DataError(f"{path}: cannot be read as {kind}: {_innermost(error)}") from error
    return Table(str(path), path.stem, ArrowRows(dataset))


def _is_empty_parquet(path: Path) -> bool:
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows == 0


def _is_json_array(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip()
        while not start and (start := file.read(1000)):
            start = start.lstrip()
        return start.startswith(b"[")


def _open_folder(folder: Path, split: str | None) -> list[Table]:
    splits = saved_splits(folder)
    if splits == [""]:
        if split is not None:
            raise DataError(f"{folder}: one saved data set without splits; leave @{split} away")
        return [_open_saved(folder, folder.name)]
    if splits is not None:
        if (split or "train") not in splits:
            raise DataError(
                f"{folder}: no split {split or 'train'!r}; write {folder}@SPLIT, one of {', '.join(splits)}"
            )
        return [_open_saved(folder / (split or "train"), f"{folder.name}@{split or 'train'}")]
    files = sorted(path for path in folder.rglob("*") if _is_data_file(path, folder))
    if not files:
        raise DataError(f"{folder}: no data file in this folder (looked for {', '.join(SUFFIXES)})")
    return [_open_file(path) for path in _of_split(files, folder, split)]


def saved_splits(folder: Path) -> list[str] | None:
    """The splits of a folder of `save_to_disk`: [""] for one without splits; None for any other folder, or a file.

    Raises DataError where the list of splits is damaged.
    """
    path = folder / "dataset_dict.json"
    if not path.is_file():
        return [""] if (folder / "state.json").is_file() else None
    try:
        splits = (read_object(path, "save the data set again", ["splits"]) or {}).get("splits")
    except ValueError as error:
        raise DataError(str(error)) from error
    if not isinstance(splits, list) or not splits or not all(map(_is_split, splits)):
        raise DataError(f"{path} is damaged: `splits` is no list of names. To go on, save the data set again")
    return splits


def _is_split(name: Any) -> bool:
    return isinstance(name, str) and names_a_folder(name)


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
    hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    return (
        path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not hidden
        and path.name not in _SAVED_BY_DATASETS
    )


def _of_split(files: list[Path], folder: Path, split: str | None) -> list[Path]:
    words = {path: _words(path.relative_to(folder)) for path in files}
    named = {path: [_CANONICAL[word] for word in words[path] if word in _CANONICAL] for path in files}
    if split is None and not any(named.values()):
        return files
    wanted = split or "train"
    chosen = [p for p in files if _CANONICAL.get(wanted, wanted) in named[p] or wanted in words[p]]
    if not chosen:
        raise DataError(
            f"{folder}: no file of this folder is named after split {wanted!r}: {', '.join(p.name for p in files[:10])}"
        )
    return chosen


def _words(path: Path) -> list[str]:
    """The first word of every part of a path: train-00000-of-00002.parquet says train."""
    return [re.split(r"[^A-Za-z0-9]", part, maxsplit=1)[0] for part in path.with_suffix("").parts]


def _open_hub(name: str, split: str) -> Table:
    from datasets import load_dataset
    from huggingface_hub import try_to_load_from_cache

    obstacle = hub_obstacle(name, "dataset")
    if obstacle is not None and try_to_load_from_cache(name, "README.md", repo_type="dataset") is None:
        raise DataError(
            f"{name}: there is no such file or folder here, and the hub cannot be reached ({obstacle}): download the data set "
            "elsewhere and give its path. Where a cache holds it: HF_HOME says where, HF_HUB_OFFLINE=1 reads it"
        )
    try:
        dataset = load_dataset(name, split=split)
    except Exception as error:  # no network, no such repository or split, a gated one: all end here
        raise DataError(
            f"{name}: there is no such file or folder here, and the hub did not give it: {_innermost(error)}. Without a "
            "network: download the data set elsewhere and give its path, or point HF_HOME to a cache that holds it."
        ) from error
    return Table(f"{name}@{split}", f"{name.split('/')[-1]}@{split}", ArrowRows(dataset))


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
