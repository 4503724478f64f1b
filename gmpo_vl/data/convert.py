"""Any data set to parquet in EasyR1's columns: by a mapping file, or by a Python file with a function `rows`.

Rows go through one at a time. Refused rows are counted and named, and the data card says what came of every
row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

from gmpo_vl import __version__
from gmpo_vl.data.columns import SPLIT
from gmpo_vl.data.mapping import MappingFile, value_of
from gmpo_vl.data.preparation import Given, Ready, Stream, streams_of
from gmpo_vl.data.rows import DataError, Fault, RowError, RowFaults
from gmpo_vl.data.writing import parquet_writer, refuse_to_overwrite, replacing
from gmpo_vl.storage.files import read_object, write_json
from gmpo_vl.storage.yaml_text import shown

CARD = "data_card.json"

LOOKAHEAD = 32  # rows whose pictures are read and decoded at once
FAULTS_IN_CARD = 100


@dataclass
class SplitCard:
    """One written file. sha256: of problems, answers and encoded pictures, in order."""

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

    replaced: files of an earlier conversion into the folder; those that this one did not write again are
    removed.
    """

    preparation: str
    sources: dict[str, list[str]]
    rows_in: int = 0
    not_kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    splits: dict[str, SplitCard] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    written_by: str = f"gmpo_vl {__version__}"

    def summary(self) -> str:
        """The card as lines for a person."""
        lines = [split.summary() for split in self.splits.values()]
        left_out = f", {self.not_kept:,} left out by keep" if self.not_kept else ""
        lines.append(f"rows read: {self.rows_in:,}{left_out}")
        if self.dropped:
            counts = ", ".join(f"{reason} {count:,}" for reason, count in self.dropped.items())
            lines.append(f"dropped: {counts}")
            lines += [f"  {Fault(**fault)}" for fault in self.faults[:5]]
        written = {s.file for s in self.splits.values()}
        lines += self.notes
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

    preparation: a mapping file (.yaml), or a Python file with `rows(source, split)` and SPLITS. source:
    instead of the one that the file names (`streams_of`; a Python file always wants one). limit: only the
    first rows of every split. Files of an earlier conversion into OUT are removed: a split that only they had
    could hold rows of this one. Raises DataError for a file that cannot be read, for one that it did not
    write and would overwrite, and for a split without a row (under a limit the share `validation` may be
    empty).
    """
    preparation, out = Path(preparation), Path(out)
    streams, mapping = streams_of(preparation, source)
    targets = [out / f"{name}.parquet" for split in streams for name in _files_of(split, mapping)]
    read = [name for s in streams.values() for name in (*(table.name for table in s.tables), *s.sources)]
    # A Python file may have another encoding.
    text = preparation.read_text(encoding="utf-8", errors="backslashreplace")
    with replacing(out, last=CARD) as new:
        new.replaces = _earlier_files(out)
        refuse_to_overwrite([*targets, *(out / name for name in new.replaces)], read, out / CARD)
        card = DataCard(text, {name: s.sources for name, s in streams.items()}, replaced=new.replaces)
        faults = RowFaults()
        for split, stream in streams.items():
            done = _write_split(split, stream, new.folder, mapping, limit, progress)
            if problem := _empty_split(done, mapping, is_trial=limit is not None):
                raise DataError(f"{preparation}: {problem}")
            card.splits |= done.splits
            notes = [f"{table.name}: {note}" for table in stream.tables for note in table.rows.notes]
            card.notes += [note for note in (*notes, *stream.notes) if note not in card.notes]
            card.rows_in += done.read
            card.not_kept += done.not_kept
            faults += done.faults
        card.dropped = faults.counts()
        card.faults = [asdict(fault) for fault in faults[:FAULTS_IN_CARD]]
        write_json(new.folder / CARD, asdict(card))
    return card


def num_rows(preparation: str | Path, source: str | None, limit: int | None) -> int:
    """Rows that `convert` will read, for a progress bar; 0 where a Python file makes them as it goes."""
    if Path(preparation).suffix == ".py":
        return 0
    streams, _ = streams_of(Path(preparation), source)
    totals = [stream.num_rows for stream in streams.values()]
    return sum(min(total, limit) if limit is not None else total for total in totals)


def _files_of(split: str, mapping: MappingFile | None) -> tuple[str, ...]:
    """The splits that the rows of one are written to."""
    return (split, "validation") if mapping and mapping.validation and split == "train" else (split,)


def _earlier_files(out: Path) -> list[str]:
    """The SPLIT.parquet of an earlier conversion that are there: its card lists them."""
    try:
        card = read_object(out / CARD, "write to another folder", ("splits",))
    except ValueError as error:
        raise DataError(str(error)) from error
    splits = {} if card is None else card["splits"]
    if not isinstance(splits, dict):
        raise DataError(
            f"{out / CARD} is not the card of a conversion: its splits are {shown(splits)}; "
            "write to another folder"
        )
    files = [f"{split}.parquet" for split in splits if SPLIT.fullmatch(split)]
    return [name for name in files if (out / name).is_file()]


@dataclass
class _Done:
    """What became of the rows of one split's sources. splits: the files they were written to."""

    splits: dict[str, SplitCard]
    read: int = 0
    not_kept: int = 0
    faults: RowFaults = field(default_factory=RowFaults)


def _write_split(
    split: str,
    stream: Stream,
    folder: Path,
    mapping: MappingFile | None,
    limit: int | None,
    progress: Callable[[int], None] | None,
) -> _Done:
    done = _Done({name: SplitCard(f"{name}.parquet") for name in _files_of(split, mapping)})
    with ExitStack() as stack:
        writers: dict[str, _SplitWriter] = {}
        for name, card in done.splits.items():
            writer = parquet_writer(folder / card.file, {"id": "string", **stream.carried})
            writers[name] = _SplitWriter(card, stack.enter_context(writer))
        for given, result in _finished(islice(stream.rows, limit), stream.finish):
            done.read += 1
            try:
                if isinstance(result, RowError):
                    raise result
                if result is None:
                    done.not_kept += 1
                else:
                    to_validation = len(writers) > 1 and _is_validation(result, given.content, mapping)
                    writers["validation" if to_validation else split].add(result)
            except RowError as error:
                done.faults.append(given.fault(error))
            if progress is not None:
                progress(1)
    return done


def _finished(
    rows: Iterable[Given], finish: Callable[[Given], Ready | None]
) -> Iterator[tuple[Given, Ready | RowError | None]]:
    """Every row with what became of it, in order. Pictures decode in threads, a few rows at a time."""

    def attempt(given: Given) -> Ready | RowError | None:
        try:
            return given.content if isinstance(given.content, RowError) else finish(given)
        except RowError as error:
            return error

    rows = iter(rows)
    with ThreadPoolExecutor() as threads:
        while block := list(islice(rows, LOOKAHEAD)):
            yield from zip(block, threads.map(attempt, block), strict=True)


class _SplitWriter:
    """Writes the rows of one file, and counts them on its card."""

    def __init__(self, card: SplitCard, write: Callable[[Mapping[str, Any]], None]):
        self._card, self._write = card, write
        self._digest = hashlib.sha256()
        self._ids: set[bytes] = set()

    def add(self, ready: Ready) -> None:
        """Raises RowError for an id that was written before."""
        example, pictures = ready.example, cast("tuple[bytes, ...]", ready.example.images)
        key = hashlib.blake2b(example.id.encode(), digest_size=8).digest()
        if key in self._ids:
            raise RowError(
                "duplicate_id", f"the id {example.id!r} was there before; choose another column for id"
            )
        self._ids.add(key)
        texts = {"problem": example.problem, "answer": example.answer}
        self._write({"images": pictures, **texts, "id": example.id, **ready.carried})
        self._digest.update(json.dumps([*texts.values(), [len(picture) for picture in pictures]]).encode())
        for picture in pictures:
            self._digest.update(picture)
        self._card.rows += 1
        self._card.pictures += len(pictures)
        self._card.without_picture += not pictures
        self._card.sha256 = self._digest.hexdigest()


def _is_validation(ready: Ready, row: Mapping[str, Any], mapping: MappingFile | None) -> bool:
    return mapping is not None and place_in_split(ready, row, mapping) < mapping.validation


def place_in_split(ready: Ready, row: Mapping[str, Any], mapping: MappingFile) -> float:
    """A number from 0 to 1; below the share `validation` the row goes there. Rows with the same picture (or
    `split_by`) have the same.
    """
    if mapping.split_by is not None:
        key = str(value_of(row, mapping.split_by, "split_by")).encode()
    elif ready.example.images:
        key = cast(bytes, ready.example.images[0])
    else:
        key = ready.example.problem.encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64


def _empty_split(done: _Done, mapping: MappingFile | None, is_trial: bool) -> str | None:
    """Which file is without a row, what became of the rows, and which keys can be the reason; None if all
    have some.

    The second file is the share `validation`, which a trial's few rows need not reach.
    """
    written = list(done.splits.values())
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
                f"All {other.rows:,} good rows went to {other.file}. "
                f"{way} `validation: {mapping.validation}`{by}."
            )
    return "\n".join(line for line in lines if line)
