"""Any data set to parquet in EasyR1's columns: by a mapping file, or by a Python file with a function `rows`.

Rows go through one at a time; what is refused is counted and named, and the data card says what came of every row.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from gmpo_vl import __version__
from gmpo_vl.data.images import ImageError, decode_image
from gmpo_vl.data.mapped import map_row
from gmpo_vl.data.mapping import MappingFile, load_mapping, value_of
from gmpo_vl.data.rows import Columns, DataError, Fault, RowError, RowFaults, example_from_row
from gmpo_vl.data.sources import ArrowRows, Table, open_tables
from gmpo_vl.data.types import Example
from gmpo_vl.data.writing import parquet_writer, refuse_to_overwrite
from gmpo_vl.runs import write_json

CARD = "data_card.json"

LOOKAHEAD = 32  # rows whose pictures are read and decoded at once
FAULTS_IN_CARD = 100
SPLIT = re.compile(r"[a-z][a-z0-9_]*")


@dataclass
class SplitCard:
    """One written file. sha256: of problems, answers and encoded pictures, in order."""

    file: str
    rows: int = 0
    pictures: int = 0
    sha256: str = ""


@dataclass
class DataCard:
    """What came of every row: rows_in = rows of all splits + not_kept + dropped rows.

    replaced: files of an earlier conversion into the folder; those that this one did not write again are removed.
    """

    preparation: str
    sources: dict[str, list[str]]
    rows_in: int = 0
    not_kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    splits: dict[str, SplitCard] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    written_by: str = f"gmpo_vl {__version__}"

    def summary(self) -> str:
        """The card as lines for a person."""
        lines = [f"{s.file}: {s.rows:,} rows with {s.pictures:,} pictures" for s in self.splits.values()]
        lines.append(
            f"rows read: {self.rows_in:,}"
            + (f", {self.not_kept:,} left out by keep" if self.not_kept else "")
        )
        if self.dropped:
            counts = ", ".join(f"{reason} {count:,}" for reason, count in self.dropped.items())
            lines.append(f"dropped: {counts}")
            lines += [f"  {Fault(**fault)}" for fault in self.faults[:5]]
        written = {s.file for s in self.splits.values()}
        for verb, again in (("replaced", True), ("removed", False)):
            files = [name for name in self.replaced if (name in written) is again]
            if files:
                lines.append(f"{verb}, of an earlier conversion: {', '.join(files)}")
        return "\n".join(lines)


def convert(
    preparation: str | Path,
    out: str | Path,
    source: str | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> DataCard:
    """Write OUT/SPLIT.parquet and OUT/data_card.json; returns the card.

    preparation: a mapping file (.yaml), or a Python file with `rows(source, split)` and SPLITS. source: instead of the one the
    file names (a Python file always wants one). limit: only the first rows of every split, to try things out.
    Raises DataError for a file that cannot be read, for one that it would overwrite and did not write, and where no row is
    left. Files of an earlier conversion into OUT go: a split that only they had could hold rows of this one's.
    """
    preparation, out = Path(preparation), Path(out)
    if preparation.suffix == ".py":
        streams, mapping = _streams_of_python(preparation, source), None
    else:
        mapping = _from_source(load_mapping(preparation), source)
        streams = _streams_of_mapping(mapping)
    names = {split: _names(split, mapping) for split in streams}
    earlier = _earlier_files(out)
    targets = [out / f"{name}.parquet" for several in names.values() for name in several]
    read = [table.name for s in streams.values() for table in s.tables] + [
        n for s in streams.values() for n in s.sources
    ]
    refuse_to_overwrite([*targets, *(out / name for name in earlier)], read, out / CARD)
    card = DataCard(preparation.read_text(encoding="utf-8"), {name: s.sources for name, s in streams.items()})
    faults = RowFaults()
    with ExitStack() as stack:
        writers: dict[str, _SplitWriter] = {}
        for split, stream in streams.items():
            for name in names[split]:
                writers[name] = stack.enter_context(_SplitWriter(out, name, stream.carried))
            taken = islice(stream.rows, limit)
            for given, result in _finished(taken, stream.finish, LOOKAHEAD):
                card.rows_in += 1
                if isinstance(result, RowError):
                    faults.faults.append(given.fault(result))
                elif result is None:
                    card.not_kept += 1
                else:
                    _write(result, given, split, writers, mapping, faults)
                if progress is not None:
                    progress(1)
        card.splits = {name: writer.card for name, writer in writers.items()}
        card.dropped = faults.counts()
        card.faults = [asdict(fault) for fault in faults.faults[:FAULTS_IN_CARD]]
        if not any(s.rows for s in card.splits.values()):
            raise DataError(f"{preparation}: no row is left of {card.rows_in:,}\n{faults.summary()}".rstrip())
    card.replaced = earlier
    for name in set(earlier) - {s.file for s in card.splits.values()}:
        (out / name).unlink()
    write_json(out / CARD, asdict(card))
    return card


def _names(split: str, mapping: MappingFile | None) -> tuple[str, ...]:
    """The splits that the rows of one are written to."""
    return (split, "validation") if mapping and mapping.validation and split == "train" else (split,)


def _earlier_files(out: Path) -> list[str]:
    """The SPLIT.parquet that the card in the folder lists and that are there: of an earlier conversion."""
    if not (out / CARD).is_file():
        return []
    try:
        splits = json.loads((out / CARD).read_text(encoding="utf-8"))["splits"]
        files = [f"{split}.parquet" for split in splits if SPLIT.fullmatch(split)]
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{out / CARD} is not the card of a conversion ({error}); write to another folder"
        ) from error
    return [name for name in files if (out / name).is_file()]


def _from_source(mapping: MappingFile, source: str | None) -> MappingFile:
    """The mapping with --source in place of its own: a path from the working directory, or a hub id."""
    if source is None:
        return mapping
    if len(mapping.sources) > 1:
        raise DataError(
            f"--source {source}: the mapping reads {len(mapping.sources)} splits ({', '.join(mapping.sources)}), and one "
            "source cannot stand for them all; change `source` in the file"
        )
    split = next(iter(mapping.sources))
    return replace(mapping, source={split: _place(Path.cwd(), source)})


def num_rows(preparation: str | Path, source: str | None, limit: int | None) -> int:
    """Rows that `convert` will read, for a progress bar; 0 where a Python file makes them as it goes."""
    if Path(preparation).suffix == ".py":
        return 0
    mapping = _from_source(load_mapping(preparation), source)
    totals = [sum(len(table.rows) for table in s.tables) for s in _streams_of_mapping(mapping).values()]
    return sum(min(total, limit) if limit is not None else total for total in totals)


@dataclass(frozen=True)
class _Given:
    """A row as it was read, and where."""

    file: str
    row: int
    label: str
    content: Any

    @property
    def name(self) -> str:
        return f"{self.label}:{self.row}"

    def fault(self, error: RowError) -> Fault:
        return Fault(self.file, self.row, self.name, error.reason, str(error))


@dataclass(frozen=True)
class _Ready:
    """A row that can be written: checked, its pictures encoded as they were."""

    example: Example
    carried: dict[str, Any]


@dataclass
class _Stream:
    """The rows of one split, and what makes each of them ready. carried: {column: type as `datasets.Value` names it}."""

    sources: list[str]
    rows: Iterator[_Given]
    finish: Callable[[_Given], _Ready | None]
    carried: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)


def _streams_of_mapping(mapping: MappingFile) -> dict[str, _Stream]:
    streams = {}
    for split, sources in mapping.sources.items():
        _check_split(split)
        places = [_place(mapping.folder, s) for s in sources]
        tables = open_tables(places)
        carried = {name: _column_type(tables, name) for name in mapping.carry or ()}

        def finish(given: _Given, carried: dict[str, str] = carried) -> _Ready | None:
            mapped = map_row(given.content, mapping)
            if mapped is None:
                return None
            return _ready(
                mapped, given.name, {name: _as(mapped[name], kind) for name, kind in carried.items()}
            )

        streams[split] = _Stream(places, _given_rows(tables), finish, carried, tables)
    return streams


def _place(folder: Path, source: str) -> str:
    """A relative path beginning at the mapping file's folder; a hub id as it is."""
    path = (
        folder / source.rpartition("@")[0]
        if "@" in source and not (folder / source).exists()
        else folder / source
    )
    return str(folder / source) if path.exists() else source


def _given_rows(tables: Iterable[Table]) -> Iterator[_Given]:
    for table in tables:
        for row in range(len(table.rows)):
            try:
                content: Any = table.rows[row]
            except RowError as error:
                content = error
            yield _Given(table.name, row, table.label, content)


def _streams_of_python(path: Path, source: str | None) -> dict[str, _Stream]:
    if source is None:
        raise DataError(f"{path}: a Python file needs --source: the files it reads")
    if not Path(source).exists():
        raise DataError(f"--source {source}: no such file or folder (working directory {Path.cwd()})")
    spec = importlib.util.spec_from_file_location(f"data_prep_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise DataError(f"there is no Python file {path}; `gmpo-vl data new NAME --python` writes one")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [name for name in ("rows", "SPLITS") if not hasattr(module, name)]
    if missing:
        raise DataError(f"{path} has no {' and no '.join(missing)}: rows(source, split) and SPLITS = (...)")

    def given(split: str) -> Iterator[_Given]:
        for row, content in enumerate(module.rows(Path(source), split)):
            yield _Given(source, row, split, content)

    def finish(given: _Given) -> _Ready:
        return _ready(given.content, given.name, {})

    for split in module.SPLITS:
        _check_split(split)
    return {split: _Stream([source], given(split), finish) for split in module.SPLITS}


def _check_split(split: str) -> None:
    if not SPLIT.fullmatch(split):
        raise DataError(f"the split {split!r} becomes a file name: small letters, digits and _ only")


def _ready(mapped: Mapping[str, Any], name: str, carried: dict[str, Any]) -> _Ready:
    """Check the row as training would, decode its pictures once, and hold them encoded."""
    example = example_from_row(mapped, Columns(), name)
    encoded = []
    for i, image in enumerate(example.images, start=1):
        try:
            encoded.append(Path(image).read_bytes() if isinstance(image, str) else image)
            decode_image(encoded[-1])
        except (ImageError, OSError) as error:
            raise RowError("image_unreadable", f"image {i}: {error}") from error
    return _Ready(replace(example, images=tuple(encoded)), carried)


def _finished(
    rows: Iterable[_Given], finish: Callable[[_Given], _Ready | None], lookahead: int
) -> Iterator[tuple[_Given, _Ready | RowError | None]]:
    """Every row with what became of it, in order. Pictures decode in threads, a few rows at a time."""

    def attempt(given: _Given) -> _Ready | RowError | None:
        try:
            if isinstance(given.content, RowError):
                return given.content
            return finish(given)
        except RowError as error:
            return error

    rows = iter(rows)
    with ThreadPoolExecutor() as threads:
        while block := list(islice(rows, lookahead)):
            yield from zip(block, threads.map(attempt, block), strict=True)


class _SplitWriter:
    """OUT/SPLIT.parquet while it is written."""

    def __init__(self, out: Path, split: str, carried: Mapping[str, str]):
        self.card = SplitCard(f"{split}.parquet")
        self._writer = parquet_writer(out / self.card.file, {"id": "string", **carried})
        self._digest = hashlib.sha256()
        self._ids: set[bytes] = set()

    def __enter__(self) -> _SplitWriter:
        self._write = self._writer.__enter__()
        return self

    def __exit__(self, *raised: Any) -> bool | None:
        return self._writer.__exit__(*raised)

    def add(self, ready: _Ready) -> None:
        """Raises RowError for an id that was written before."""
        example = ready.example
        key = hashlib.blake2b(example.id.encode(), digest_size=8).digest()
        if key in self._ids:
            raise RowError(
                "duplicate_id", f"the id {example.id!r} was there before; choose another column for id"
            )
        self._ids.add(key)
        texts = json.dumps([example.problem, example.answer, [len(i) for i in example.images]])  # type: ignore[arg-type]
        self._digest.update(texts.encode())
        for image in example.images:
            self._digest.update(image)  # type: ignore[arg-type]
        self._write(
            {
                "images": example.images,
                "problem": example.problem,
                "answer": example.answer,
                "id": example.id,
                **ready.carried,
            }
        )
        self.card.rows += 1
        self.card.pictures += len(example.images)
        self.card.sha256 = self._digest.hexdigest()


def _write(
    ready: _Ready,
    given: _Given,
    split: str,
    writers: Mapping[str, _SplitWriter],
    mapping: MappingFile | None,
    faults: RowFaults,
) -> None:
    try:
        if mapping is not None and split == "train" and is_validation(ready.example, given.content, mapping):
            split = "validation"
        writers[split].add(ready)
    except RowError as error:
        faults.faults.append(given.fault(error))


def is_validation(example: Example, row: Mapping[str, Any], mapping: MappingFile) -> bool:
    """Does the hash put the row into the validation split? Rows with the same picture (or `split_by`) go the same way."""
    if mapping.split_by is not None:
        key = str(value_of(row, mapping.split_by)).encode()
    elif example.images:
        key = example.images[0] if isinstance(example.images[0], bytes) else str(example.images[0]).encode()
    else:
        key = example.problem.encode()
    share = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
    return share < mapping.validation


def _column_type(tables: Iterable[Table], name: str) -> str:
    """The source's own type of a carried column; text where it has none (JSON, CSV) or the tables disagree."""
    kinds = set()
    for table in tables:
        features = table.rows.dataset.features if isinstance(table.rows, ArrowRows) else {}
        kinds.add(getattr(features.get(name), "dtype", "string") if features else "string")
    kind = kinds.pop() if len(kinds) == 1 else "string"
    return kind if kind.startswith(("int", "uint", "float", "bool")) else "string"


def _as(value: Any, kind: str) -> Any:
    return value if value is None or kind != "string" else str(value)
