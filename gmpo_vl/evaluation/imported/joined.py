"""Rows of --data joined to a harness's: their ids, golds with choices and tolerances, and columns.

A harness's row is the row whose id its own columns make, where the benchmark says how (We-Math: ID and key);
else the row of its number (doc_id) or id (index). Either way both must have the same right answer.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gmpo_vl.data.examples import ExampleSet, load_examples
from gmpo_vl.data.rows import Columns, RowError
from gmpo_vl.evaluation.imported.rows import ImportedRow
from gmpo_vl.evaluation.official import golds_agree

# lmms-eval hashes nothing in some versions: its row was gone by then.
EMPTY_HASHES = frozenset(hashlib.sha256(text).hexdigest() for text in (b"", b"null", b"{}"))


class Joined:
    """by_place: a harness's key is the row's number in the data; otherwise it is the row's id. name: makes a
    row's id of the benchmark's own columns.

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
        self.examples: ExampleSet = load_examples(source, columns, on_bad_row="skip")
        self.hashes: Counter[str] = Counter()
        ids = [example_id for example_id, _, _ in self.examples.texts()]
        places = self.examples.rows_K.tolist() if by_place else ids
        self._index = {str(place): i for i, place in enumerate(places)}
        self._by_id = {example_id: i for i, example_id in enumerate(ids)}
        self._name = name
        self._what = "row" if by_place else "id"

    def _place(self, given: ImportedRow) -> int:
        """Which row of the data it is. Raises RowError for none."""
        if self._name is not None:
            try:
                return self._by_id[self._name(given.meta)]
            except (RowError, KeyError):  # without those columns its key must do
                pass
        if given.key not in self._index:
            raise RowError("not_in_data", f"the data has no {self._what} {given.key}")
        return self._index[given.key]

    def row(self, given: ImportedRow) -> tuple[str, ImportedRow]:
        """(our id, the row as the data has it). Raises RowError where the data has no such row, or one whose
        gold does not take the harness's answer."""
        i = self._place(given)
        example = self.examples[i]
        if given.gold and not golds_agree(example.answer, given.gold):
            raise RowError(
                "another_answer",
                f"the right answer is {given.gold[:60]!r} in the file, {example.answer[:60]!r} in the data",
            )
        if given.doc_hash:
            table, number = self.examples.place(i)
            self.hashes[_compared(given.doc_hash, table.rows[number])] += 1
        meta = given.meta | example.meta
        return example.id, replace(given, question=example.problem, gold=example.answer, meta=meta)


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
