"""Any data set to parquet in EasyR1's columns: by a mapping file, or by a Python file with a function `rows`.

Rows go through one at a time; what is refused is counted and named, and the data card says what came of every row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from gmpo_vl import __version__
from gmpo_vl.data.mapping import MappingFile, value_of
from gmpo_vl.data.preparation import SPLIT, Given, Ready, Stream, streams_of
from gmpo_vl.data.rows import DataError, Fault, RowError, RowFaults
from gmpo_vl.data.writing import parquet_writer, refuse_to_overwrite, replacing
from gmpo_vl.storage.files import read_object, write_json
from gmpo_vl.storage.yaml_text import shown
from gmpo_vl.types import Example

CARD = "data_card.json"

LOOKAHEAD = 32  # rows whose pictures are read and decoded at once
FAULTS_IN_CARD = 100


@dataclass
class SplitCard:
    """One written file. without_picture: rows that have none. sha256: of problems, answers and encoded pictures, in order."""

    file: str
    rows: int = 0
    pictures: int = 0
    without_picture: int = 0
    sha256: str = ""

    def summary(self) -> str:
        mixed = self.pictures and self.without_picture
        without = f" (rows without a picture: {self.without_picture:,})" if mixed else ""
        return f"{self.file}: {self.rows:,} rows with {self.pictures:,} pictures{without}"


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
        lines = [split.summary() for split in self.splits.values()]
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
    file names (`streams_of`; a Python file always wants one). limit: only the first rows of every split, to try things out.
    Raises DataError for a file that cannot be read, for one that it would overwrite and did not write, and for a split without
    a row (under a limit the share `validation` may be empty). Files of an earlier conversion into OUT go: a split that only
    they had could hold rows of this one's.
    """
    preparation, out = Path(preparation), Path(out)
    streams, mapping = streams_of(preparation, source)
    names = {split: _names(split, mapping) for split in streams}
    targets = [out / f"{name}.parquet" for several in names.values() for name in several]
    read = [table.name for s in streams.values() for table in s.tables] + [
        n for s in streams.values() for n in s.sources
    ]
    with replacing(out, last=CARD) as new:
        new.replaces = _earlier_files(out)
        refuse_to_overwrite([*targets, *(out / name for name in new.replaces)], read, out / CARD)
        card = _write_all(preparation, new.folder, streams, mapping, limit, progress)
        card.replaced = new.replaces
        write_json(new.folder / CARD, asdict(card))
    return card


def _write_all(
    preparation: Path,
    folder: Path,
    streams: Mapping[str, Stream],
    mapping: MappingFile | None,
    limit: int | None,
    progress: Callable[[int], None] | None,
) -> DataCard:
    """Write FOLDER/SPLIT.parquet. Raises DataError for a split without a row."""
    text = preparation.read_text(
        encoding="utf-8", errors="backslashreplace"
    )  # Python files have other encodings
    card = DataCard(text, {name: s.sources for name, s in streams.items()})
    faults = RowFaults()
    with ExitStack() as stack:
        writers: dict[str, _SplitWriter] = {}
        for split, stream in streams.items():
            names = _names(split, mapping)
            for name in names:
                writers[name] = stack.enter_context(_SplitWriter(folder, name, stream.carried))
            done = _convert_split(split, stream, writers, mapping, limit, progress)
            card.rows_in += done.read
            card.not_kept += done.not_kept
            faults.faults += done.faults.faults
            written = [writers[name].card for name in names]
            if problem := _empty_split(written, done, mapping, is_trial=limit is not None):
                raise DataError(f"{preparation}: {problem}")
        card.splits = {name: writer.card for name, writer in writers.items()}
        card.dropped = faults.counts()
        card.faults = [asdict(fault) for fault in faults.faults[:FAULTS_IN_CARD]]
    return card


def _names(split: str, mapping: MappingFile | None) -> tuple[str, ...]:
    """The splits that the rows of one are written to."""
    return (split, "validation") if mapping and mapping.validation and split == "train" else (split,)


@dataclass
class _Done:
    """What became of the rows of one split's sources."""

    read: int = 0
    not_kept: int = 0
    faults: RowFaults = field(default_factory=RowFaults)


def _convert_split(
    split: str,
    stream: Stream,
    writers: Mapping[str, _SplitWriter],
    mapping: MappingFile | None,
    limit: int | None,
    progress: Callable[[int], None] | None,
) -> _Done:
    done = _Done()
    for given, result in _finished(islice(stream.rows, limit), stream.finish, LOOKAHEAD):
        done.read += 1
        if isinstance(result, RowError):
            done.faults.faults.append(given.fault(result))
        elif result is None:
            done.not_kept += 1
        else:
            _write(result, given, split, writers, mapping, done.faults)
        if progress is not None:
            progress(1)
    return done


def _empty_split(
    written: Sequence[SplitCard], done: _Done, mapping: MappingFile | None, is_trial: bool
) -> str | None:
    """A file without a row, what became of the rows instead, and which keys can have done it; None where each has some.

    written: the split's file, and that of the share `validation` cut off it, which a trial's few rows need not reach.
    """
    empty = next((card for card in (written[:1] if is_trial else written) if card.rows == 0), None)
    if empty is None:
        return None
    left_out = f", {done.not_kept:,} left out by keep" if done.not_kept else ""
    lines = [
        f"no row is left for {empty.file}: of {done.read:,} rows {len(done.faults):,} dropped{left_out}",
        done.faults.summary(),
    ]
    if mapping is not None and done.not_kept:
        lines.append(f"Is `keep: {mapping.keep}` what was meant?")
    for other in written:
        if mapping is not None and other.rows:
            way = "Lower" if empty is written[0] else "Raise or remove"
            by = f", or let `split_by: {mapping.split_by}` have more values" if mapping.split_by else ""
            lines.append(
                f"All {other.rows:,} good rows went to {other.file}. {way} `validation: {mapping.validation}`{by}."
            )
    return "\n".join(line for line in lines if line)


def _earlier_files(out: Path) -> list[str]:
    """The SPLIT.parquet that the card in the folder lists and that are there: of an earlier conversion."""
    try:
        card = read_object(out / CARD, "write to another folder", ("splits",))
    except ValueError as error:
        raise DataError(str(error)) from error
    splits = {} if card is None else card["splits"]
    if not isinstance(splits, dict):
        raise DataError(
            f"{out / CARD} is not the card of a conversion: its splits are {shown(splits)}; write to another folder"
        )
    files = [f"{split}.parquet" for split in splits if SPLIT.fullmatch(split)]
    return [name for name in files if (out / name).is_file()]


def num_rows(preparation: str | Path, source: str | None, limit: int | None) -> int:
    """Rows that `convert` will read, for a progress bar; 0 where a Python file makes them as it goes."""
    if Path(preparation).suffix == ".py":
        return 0
    streams, _ = streams_of(Path(preparation), source)
    totals = [sum(len(table.rows) for table in s.tables) for s in streams.values()]
    return sum(min(total, limit) if limit is not None else total for total in totals)


def _finished(
    rows: Iterable[Given], finish: Callable[[Given], Ready | None], lookahead: int
) -> Iterator[tuple[Given, Ready | RowError | None]]:
    """Every row with what became of it, in order. Pictures decode in threads, a few rows at a time."""

    def attempt(given: Given) -> Ready | RowError | None:
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

    def add(self, ready: Ready) -> None:
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
        self.card.without_picture += not example.images
        self.card.sha256 = self._digest.hexdigest()


def _write(
    ready: Ready,
    given: Given,
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
        key = str(value_of(row, mapping.split_by, "split_by")).encode()
    elif example.images:
        key = example.images[0] if isinstance(example.images[0], bytes) else str(example.images[0]).encode()
    else:
        key = example.problem.encode()
    share = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
    return share < mapping.validation
