"""Rows of --data joined to a harness's: their ids, golds with choices and tolerances, and columns.

A harness's row is the row whose id its own columns make, where the benchmark says how (We-Math: ID and key).
Else lmms-eval's doc_id is the row's place in the public table (the column `source_row`; without it, the row's
number), and VLMEvalKit's index the column `index`, or the row's id. Whichever it is, both must ask the same
and have the same right answer.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gmpo_vl.data.answers import written
from gmpo_vl.data.examples import ExampleSet, load_examples
from gmpo_vl.data.rows import Columns, RowError
from gmpo_vl.data.values import is_empty
from gmpo_vl.evaluation.imported.questions import Asked, joined_gold
from gmpo_vl.evaluation.imported.rows import ImportedRow

# lmms-eval hashes nothing in some versions: its row was gone by then.
EMPTY_HASHES = frozenset(hashlib.sha256(text).hexdigest() for text in (b"", b"null", b"{}"))
SOURCE_ROW = "source_row"  # the row's place in the public table, from 0
INDEX = "index"  # VLMEvalKit's
OTHERS = ("another_question", "another_answer")  # reasons why a row of the harness is not the data's
_MOST_OTHERS = 0.05  # of the rows; with more of them the others agree by chance


class Joined:
    """by_place: a harness's key is the row's number; otherwise it is an index or an id. name: makes a row's
    id of the benchmark's own columns.

    hashes: how many of lmms-eval's doc_hash were `equal` to the row's, `other`, `empty` (the hash of
    nothing), or `unknown`, because the row has pictures: the harness hashes where in memory they lay.
    """

    def __init__(
        self,
        source: str,
        columns: Columns,
        by_place: bool,
        name: Callable[[Mapping[str, Any]], str] | None = None,
    ):
        self.source = source
        self.examples: ExampleSet = load_examples(source, columns, on_bad_row="skip")
        self.hashes: Counter[str] = Counter()
        texts = [(example_id, problem) for example_id, problem, _ in self.examples.texts()]
        self._asked = Asked(problem for _, problem in texts)
        ids = [example_id for example_id, _ in texts]
        self._by_id = {example_id: i for i, example_id in enumerate(ids)}
        usual = columns.id_key == Columns.id_key
        keys = self._column(SOURCE_ROW if by_place else INDEX) if by_place or usual else None
        self.joined_by = (SOURCE_ROW if by_place else INDEX) if keys else "row number" if by_place else "id"
        if keys is None:
            keys = list(map(str, self.examples.rows_K.tolist())) if by_place else ids
        self._index = {key: i for i, key in enumerate(keys)}
        self._name = name

    def _column(self, name: str) -> list[str] | None:
        """The column of the usable rows as texts; None where a row has none. Raises ValueError for a value
        that two rows have."""
        rows = (row for table in self.examples.tables for row in table.rows.scan([name]))
        every = [None if isinstance(row, RowError) else row.get(name) for row in rows]
        found = [every[number] for number in self.examples.rows_K.tolist()]
        if any(map(is_empty, found)):
            return None
        texts = list(map(written, found))
        (most, count), *_ = Counter(texts).most_common(1)
        if count > 1:
            raise ValueError(
                f"{self.source}: {name} is {most[:60]!r} in {count:,} rows, so nothing can be joined"
            )
        return texts

    def _place(self, given: ImportedRow) -> int:
        """Which row of the data it is. Raises RowError for none."""
        if self._name is not None:
            try:
                return self._by_id[self._name(given.meta)]
            except (RowError, KeyError):  # without those columns its key must do
                pass
        if given.key not in self._index:
            raise RowError("not_in_data", f"the data has no {self.joined_by} {given.key}")
        return self._index[given.key]

    def row(self, given: ImportedRow) -> tuple[str, ImportedRow]:
        """(our id, the row as the data has it). Raises RowError where the data has no such row, or one that
        asks something else or has another right answer."""
        i = self._place(given)
        example = self.examples[i]
        same = self._asked.is_same(example.problem, given.question)
        if given.fault and not same:
            raise given.fault
        if same is False:
            raise RowError(
                "another_question",
                f"the file asks {_end(given.question)!r}, row {example.id} of the data "
                f"{_end(example.problem)!r}",
            )
        gold = joined_gold(given.gold, given.question, example.answer, example.problem)
        if gold is None:
            raise RowError(
                "another_answer",
                f"the right answer is {given.gold[:60]!r} in the file, {example.answer[:60]!r} in row "
                f"{example.id} of the data",
            )
        if given.doc_hash:
            table, number = self.examples.place(i)
            self.hashes[_compared(given.doc_hash, table.rows[number])] += 1
        meta = given.meta | example.meta
        return example.id, replace(given, question=example.problem, gold=gold, fault=None, meta=meta)

    def check(self, joined: int, refused: Mapping[str, int], shown: str) -> None:
        """Raise ValueError where too many rows were refused as another question's. shown: one of them."""
        others = sum(refused.get(reason, 0) for reason in OTHERS)
        if others > max(1, _MOST_OTHERS * (joined + others)):
            raise ValueError(
                f"{others:,} of {joined + others:,} rows are not those of --data {self.source}, joined by "
                f"{self.joined_by} ({shown}). Its rows lie in another order, or some are missing: give the "
                f"table that was asked, whole and in its order, or with a column {SOURCE_ROW} or {INDEX} as "
                "the harness counts; or leave --data out"
            )


def _end(text: str) -> str:
    """Its last 80 characters, with single spaces."""
    return " ".join(text[-400:].split())[-80:]


def _compared(stated: str, row: Mapping[str, Any]) -> str:
    if stated in EMPTY_HASHES:
        return "empty"
    try:
        text = json.dumps(dict(row), indent=2, ensure_ascii=False)
    except TypeError:  # a picture, or another object: the harness writes its address
        return "unknown"
    if any(isinstance(value, Mapping) and "bytes" in value for value in row.values()):
        return "unknown"
    return "equal" if hashlib.sha256(text.encode()).hexdigest() == stated else "other"
