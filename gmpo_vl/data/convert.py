"""Any data set to parquet in EasyR1's columns: by a mapping file, or by a Python file with a function `rows`.

Rows go through one at a time. Refused rows are counted and named, and the data card says what came of every
row.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from gmpo_vl import __version__
from gmpo_vl.data.columns import SPLIT
from gmpo_vl.data.grouping import Groups, key_of
from gmpo_vl.data.mapping import MappingFile, value_of
from gmpo_vl.data.preparation import Given, Ready, Stream, streams_of
from gmpo_vl.data.rows import DataError, Fault, RowError, RowFaults
from gmpo_vl.data.writing import ROWS_PER_GROUP, parquet_writer, refuse_to_overwrite, replacing
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

    notes: how files were read, where that needs a word. splitting: how rows became validation. replaced:
    files of an earlier conversion into the folder; those that this one did not write again are removed.
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
    splitting: str = ""
    written_by: str = f"gmpo_vl {__version__}"

    def summary(self) -> str:
        """The card as lines for a person."""
        lines = [split.summary() for split in self.splits.values()]
        left_out = f", {self.not_kept:,} left out by keep" if self.not_kept else ""
        lines.append(f"rows read: {self.rows_in:,}{left_out}")
        if self.splitting:
            lines.append(self.splitting)
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
                where = f"{preparation}: split {split} ({', '.join(stream.sources)})"
                raise DataError(f"{where}: {problem}")
            card.splits |= done.splits
            notes = [note for table in stream.tables for note in table.notes]
            card.notes += [note for note in (*notes, *stream.notes) if note not in card.notes]
            card.rows_in += done.read
            card.not_kept += done.not_kept
            faults += done.faults
            card.splitting = card.splitting or done.splitting
        card.dropped = faults.counts()
        card.faults = [asdict(fault) for fault in faults[:FAULTS_IN_CARD]]
        write_json(new.folder / CARD, asdict(card))
    wanted = card.rows_in - card.not_kept
    if 2 * len(faults) > wanted:
        print(f"WARNING: {len(faults):,} of {wanted:,} rows were dropped", file=sys.stderr)
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
    splitting: str = ""


def _write_split(
    split: str,
    stream: Stream,
    folder: Path,
    mapping: MappingFile | None,
    limit: int | None,
    progress: Callable[[int], None] | None,
) -> _Done:
    done = _Done({name: SplitCard(f"{name}.parquet") for name in _files_of(split, mapping)})
    columns = {"id": "string", **stream.carried}
    split_by = mapping.split_by if mapping is not None else None
    rows = _good_rows(stream, split_by, limit, progress, done)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(_counting_writer(folder, card, columns)) for card in done.splits.values()
        ]
        if mapping is None or len(writers) == 1:
            for row, _ in rows:
                writers[0](row)
            return done
        # Which rows belong together is known when all of them are: until then they are in one file.
        groups = Groups()
        whole = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder))) / "rows.parquet"
        with parquet_writer(whole, columns) as write:
            for row, keys in rows:
                write(row)
                groups.add(keys)
        for row, to_validation in zip(_read_again(whole), groups.in_validation(mapping.validation)):
            writers[to_validation](row)
        done.splitting = _splitting(mapping, groups)
    return done


def _good_rows(
    stream: Stream,
    split_by: str | None,
    limit: int | None,
    progress: Callable[[int], None] | None,
    done: _Done,
) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """(row to write, keys that it shares with rows of its side) of every good row. Counts all rows."""
    ids: set[int] = set()
    for given, result in _finished(islice(stream.rows, limit), stream.finish):
        done.read += 1
        try:
            if isinstance(result, RowError):
                raise result
            if result is None:
                done.not_kept += 1
            else:
                keys = keys_of(result, given.content, split_by)
                _check_new(result.example.id, ids)
                yield _as_stored(result), keys
        except RowError as error:
            done.faults.append(given.fault(error))
        if progress is not None:
            progress(1)


def keys_of(ready: Ready, row: Mapping[str, Any], split_by: str | None) -> list[int]:
    """Of `split_by`; else of each picture as it is seen; else of the problem."""
    if split_by is not None:
        return [key_of(str(value_of(row, split_by, "split_by")).encode())]
    return list(ready.picture_keys) or [key_of(ready.example.problem.encode())]


def _check_new(example_id: str, ids: set[int]) -> None:
    """Raises RowError for an id that was there before; adds it."""
    key = key_of(example_id.encode())
    if key in ids:
        raise RowError(
            "duplicate_id", f"the id {example_id!r} was there before; choose another column for id"
        )
    ids.add(key)


def _as_stored(ready: Ready) -> dict[str, Any]:
    example = ready.example
    texts = {"problem": example.problem, "answer": example.answer, "id": example.id}
    return {"images": example.images, **texts, **ready.carried}


def _read_again(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of `parquet_writer`, a few at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
            for row in batch.to_pylist():
                yield {**row, "images": [picture["bytes"] for picture in row["images"]]}


def _splitting(mapping: MappingFile, groups: Groups) -> str:
    """How the rows were split, as a sentence."""
    largest = max(Counter(groups.groups()).values(), default=0)
    shared = "a picture (of the same pixels) or, without pictures, the problem"
    if mapping.split_by is not None:
        shared = f"split_by {shown(mapping.split_by)}"
    return (
        f"validation is {mapping.validation:g} by hash; rows that share {shared} are on one side: "
        f"{largest:,} of {len(groups):,} rows in the largest group"
    )


@contextmanager
def _counting_writer(
    folder: Path, card: SplitCard, columns: Mapping[str, str]
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Writes the rows of one file, and counts them on its card."""
    digest = hashlib.sha256()

    with parquet_writer(folder / card.file, columns) as write:

        def write_and_count(row: Mapping[str, Any]) -> None:
            pictures = row["images"]
            write(row)
            lengths = [len(picture) for picture in pictures]
            digest.update(json.dumps([row["problem"], row["answer"], lengths]).encode())
            for picture in pictures:
                digest.update(picture)
            card.rows += 1
            card.pictures += len(pictures)
            card.without_picture += not pictures
            card.sha256 = digest.hexdigest()

        yield write_and_count


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


def _empty_split(done: _Done, mapping: MappingFile | None, is_trial: bool) -> str | None:
    """Which file is without a row, what became of the rows, and which keys can be the reason; None if all
    have some.

    The second file is the share `validation`, which the few rows of a trial need not reach.
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
    if mapping is not None and (other := next((card for card in written if card.rows), None)):
        shared = f"the same {shown(mapping.split_by)}" if mapping.split_by else "pictures with each other"
        lines.append(
            f"All {other.rows:,} good rows share {shared}, so they stay together, in {other.file}: "
            "remove `validation`, or let `split_by` name a column with several values."
        )
    return "\n".join(line for line in lines if line)
