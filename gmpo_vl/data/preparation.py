"""A preparation (a mapping file, or Python with `rows` and SPLITS) as streams of checked rows."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from gmpo_vl.data.columns import SPLIT, carried_column, check_columns, lacks_answers, rows_of_splits
from gmpo_vl.data.counting import check_counting
from gmpo_vl.data.formats import as_object, rows_or_errors
from gmpo_vl.data.images import MAX_IMAGE_PIXELS, ImageError, decode_image, picture_key
from gmpo_vl.data.map_row import map_row
from gmpo_vl.data.mapping import FOLDER, MappingFile, load_mapping, optional_value
from gmpo_vl.data.pictures.of_row import entries_of, pictures_below
from gmpo_vl.data.rows import Columns, DataError, Fault, RowError, example_from_row, row_id
from gmpo_vl.data.sources import Table, is_hub_id, open_tables, say_once
from gmpo_vl.data.writing import ColumnType
from gmpo_vl.storage.yaml_text import shown
from gmpo_vl.types import Example
from gmpo_vl.user_code import FAILURES, failure


@dataclass(frozen=True)
class Given:
    """A row as it was read, and where. content: the RowError of one that could not be read. id_spec: the
    column or template of the row's id.
    """

    file: str
    row: int
    label: str
    content: Any
    id_spec: str | None = None

    @property
    def name(self) -> str:
        return f"{self.label}:{self.row}"

    def fault(self, error: RowError) -> Fault:
        return Fault(self.file, self.row, self._own_id() or self.name, error.reason, str(error))

    def _own_id(self) -> str | None:
        """What the row calls itself; None where it does not, or not in a few words."""
        if self.id_spec is None or not isinstance(self.content, Mapping):
            return None
        try:
            return row_id({"id": optional_value(self.content, self.id_spec, "id")}, Columns(), self.name)
        except RowError:
            return None


@dataclass(frozen=True)
class Ready:
    """A checked row to write; the example's pictures are encoded bytes. carried: {column: value}.

    picture_keys: of the decoded pictures (`images.picture_key`), where rows are split by them.
    """

    example: Example
    carried: dict[str, Any]
    picture_keys: tuple[int, ...] = ()


@dataclass
class Stream:
    """Rows of a split, and what makes each ready. carried: {column: type as `writing.ColumnType`}. parts: of
    each table, the numbers of its rows that are in the split. num_rows: 0 where rows are made as they come.
    notes: for the data card.
    """

    sources: list[str]
    rows: Iterator[Given]
    finish: Callable[[Given], Ready | None]
    carried: dict[str, ColumnType] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    parts: list[Sequence[int]] = field(default_factory=list)
    num_rows: int = 0
    notes: list[str] = field(default_factory=list)


def streams_of(preparation: Path, source: str | None) -> tuple[dict[str, Stream], MappingFile | None]:
    """{split: its rows} of a mapping file (.yaml), and the mapping; of a Python file, and None.

    source: read this instead of what the file names. For a mapping with several splits it replaces what
    stands before their `@`: with FOLDER, X@train and X@test become FOLDER@train and FOLDER@test. Raises
    DataError.
    """
    if preparation.suffix == ".py":
        return _streams_of_python(preparation, source), None
    mapping = load_mapping(preparation)
    if source is not None:
        mapping = replace(mapping, source=_sources_from(mapping, source))
    where = f"{preparation}: source" if source is None else f"--source {source}"
    streams = _streams_of_mapping(mapping, where)
    try:
        for stream in streams.values():
            check_columns(stream.tables, mapping)
            stream.notes += _lost_pictures(stream.tables, mapping)
        check_counting([part for s in streams.values() for part in zip(s.tables, s.parts)], mapping)
    except DataError as error:
        raise DataError(f"{preparation}: {error}") from error
    return streams, mapping


def _sources_from(mapping: MappingFile, source: str) -> dict[str, str]:
    """The mapping's sources with --source (a path from the working directory, a hub id) in their place."""
    named = mapping.sources
    if len(named) == 1:
        return {split: _place(Path.cwd(), source) for split in named}
    parts = {split: sources[0].rpartition("@")[2] for split, sources in named.items()}
    if "@" in source or any(len(sources) > 1 or "@" not in sources[0] for sources in named.values()):
        raise DataError(
            f"--source {source}: the mapping reads {len(named)} splits ({', '.join(named)}); "
            "one folder or hub id can stand for all of them where each source in the file says its part "
            "behind an @, otherwise change `source` there"
        )
    return {split: _place(Path.cwd(), f"{source}@{part}") for split, part in parts.items()}


def _place(folder: Path, source: str) -> str:
    """A relative path beginning at the mapping file's folder; a hub id as it is."""
    name = source
    if "@" in source and not (folder / source).exists():
        name = source.rpartition("@")[0]
    return source if is_hub_id(name) and not (folder / name).exists() else str(folder / source)


def _streams_of_mapping(mapping: MappingFile, where: str) -> dict[str, Stream]:
    """where: what names the sources, for messages."""
    streams: dict[str, Stream] = {}
    unanswered: list[str] = []
    if mapping.image_folder == FOLDER and not mapping.pictures.root.exists():
        raise DataError(f"image_folder: {FOLDER} stands for the pictures' folder, which is still to be named")
    mapping.pictures  # noqa: B018 (made once, before threads ask for it)
    for name, sources in mapping.sources.items():
        _check_split(name, where)
        places = [_place(mapping.folder, s) for s in sources]
        try:
            tables = open_tables(places)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        for split, parts in rows_of_splits(tables, name, mapping.split_column).items():
            streams[split] = _stream(places, tables, parts, mapping)
            if lacks_answers(tables, parts, mapping.answer):
                unanswered.append(split)
    if mapping.validation and mapping.split_column is not None and "validation" in streams:
        raise DataError(
            f"validation: {mapping.split_column!r} names rows of a validation split already; "
            "take one of the two keys away"
        )
    if "train" not in unanswered and len(unanswered) < len(streams):
        for split in unanswered:
            note = _left_out(split, streams.pop(split), mapping)
            next(iter(streams.values())).notes.append(note)
            say_once(f"WARNING: {note}")
    return streams


def _left_out(split: str, stream: Stream, mapping: MappingFile) -> str:
    """What is said of a split without answers."""
    files = ", ".join(stream.sources)
    return (
        f"{split}.parquet is not written: no row of the split {split} ({files}) has an answer in "
        f"{mapping.answer!r}. Where its answers are withheld, evaluate on another split"
    )


def _stream(
    places: list[str], tables: list[Table], parts: list[Sequence[int]], mapping: MappingFile
) -> Stream:
    """parts: of each table, the numbers of the rows that belong to the split."""
    carried = {name: carried_column(tables, name) for name in mapping.carry or ()}
    folders = {table.name: table.folder for table in tables}

    def finish(given: Given) -> Ready | None:
        mapped = map_row(given.content, mapping, folders[given.file])
        if mapped is None:
            return None
        values = {name: column.value(mapped[name]) for name, column in carried.items()}
        by_picture = mapping.validation > 0 and mapping.split_by is None
        return make_ready(
            mapped, given.name, values, mapping.max_image_pixels, "max_image_pixels", by_picture
        )

    given = (
        Given(table.name, row, table.label, content, mapping.id)
        for table, rows in zip(tables, parts, strict=True)
        for row, content in zip(rows, rows_or_errors(table.rows.__getitem__, rows))
    )
    return Stream(
        places,
        given,
        finish,
        {name: column.type for name, column in carried.items()},
        tables,
        parts,
        num_rows=sum(map(len, parts)),
        notes=[column.note for column in carried.values() if column.note],
    )


def _lost_pictures(tables: list[Table], mapping: MappingFile) -> list[str]:
    """A note where the mapping names no pictures, and some lie with a table. Said to the user, too."""
    if mapping.images is not None:
        return []
    folders = dict.fromkeys(table.folder for table in tables if table.folder is not None)
    there = next((path for folder in islice(folders, 20) for path in pictures_below(folder)), None)
    if there is None:
        return []
    note = (
        f"no row has a picture: the mapping has no `images`, and pictures such as {there} lie with the table"
    )
    say_once(note)
    return [note]


def _check_split(split: str, where: str) -> None:
    if not SPLIT.fullmatch(split):
        raise DataError(f"{where}: the split {split!r} becomes a file name: small letters, digits and _ only")


def _streams_of_python(path: Path, source: str | None) -> dict[str, Stream]:
    if source is None:
        raise DataError(f"{path}: a Python file needs --source: the files it reads")
    if not Path(source).exists():
        raise DataError(f"--source {source}: no such file or folder (working directory {Path.cwd()})")
    module = _module_of(path)
    splits = module.SPLITS
    if not isinstance(splits, list | tuple) or not splits or not all(isinstance(s, str) for s in splits):
        raise DataError(
            f"{path}: SPLITS is {shown(splits)}; it names the files to write: ('train', 'validation')"
        )
    for split in splits:
        _check_split(split, f"{path}: SPLITS")

    def given(split: str) -> Iterator[Given]:
        try:
            for row, content in enumerate(module.rows(Path(source), split)):
                yield Given(source, row, split, content)
        except DataError:
            raise
        except FAILURES as error:
            raise DataError(f"{_line_of(path, error)} rows() raised {failure(error)}") from error

    def finish(given: Given) -> Ready:
        row = as_object(given.content)
        if missing := [name for name in ("problem", "answer") if name not in row]:
            raise RowError(
                "missing_column", f"rows() gave no {' and no '.join(missing)}; it gave {list(row)}"
            )
        pictured = {**row, "images": entries_of(row.get("images"))}
        return make_ready(pictured, given.name, {}, MAX_IMAGE_PIXELS)

    return {split: Stream([source], given(split), finish) for split in splits}


def _module_of(path: Path) -> Any:
    """A user's Python file, with `rows` and SPLITS."""
    spec = importlib.util.spec_from_file_location(f"data_prep_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise DataError(f"there is no Python file {path}; `gmpo-vl data new NAME --python` writes one")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FAILURES as error:  # it is anybody's code
        raise DataError(f"{_line_of(path, error)} {failure(error)}") from error
    missing = [name for name in ("rows", "SPLITS") if not hasattr(module, name)]
    if missing:
        raise DataError(f"{path} has no {' and no '.join(missing)}: rows(source, split) and SPLITS = (...)")
    return module


def _line_of(path: Path, error: BaseException) -> str:
    """Where in the file it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) in (path, path.absolute())]
    return f"{path}, line {lines[-1]}:" if lines else f"{path}:"


def make_ready(
    mapped: Mapping[str, Any],
    name: str,
    carried: dict[str, Any],
    limit: int,
    limit_key: str | None = None,
    with_keys: bool = False,
) -> Ready:
    """The mapped row, checked as training would, its pictures (of at most `limit` pixels) decoded once."""
    example = example_from_row(mapped, Columns(image_dir=str(Path.cwd())), name)
    pictures: list[Any] = []
    keys: list[int] = []
    for i, image in enumerate(example.images, start=1):
        try:
            pictures.append(Path(image).read_bytes() if isinstance(image, str) else image)
            decoded = decode_image(pictures[-1], limit, limit_key)
            if with_keys:
                keys.append(picture_key(decoded))
        except (ImageError, OSError) as error:
            file = f" ({image})" if isinstance(image, str) else ""
            raise RowError("image_unreadable", f"image {i}{file}: {error}") from error
    return Ready(replace(example, images=tuple(pictures)), carried, tuple(keys))
