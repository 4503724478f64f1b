"""Rows of --data joined to a harness's: their ids, golds with choices and tolerances, and columns."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gmpo_vl.data.examples import ExampleSet, load_examples
from gmpo_vl.data.rows import Columns, RowError
from gmpo_vl.evaluation.imported.rows import ImportedRow
from gmpo_vl.evaluation.official import golds_agree

# lmms-eval hashes nothing in some versions: its row was gone by then.
EMPTY_HASHES = frozenset(hashlib.sha256(text).hexdigest() for text in (b"", b"null", b"{}"))


class Joined:
    """by_place: a harness's key is the row's number in the data; otherwise it is the row's id.

    hashes: how many of lmms-eval's doc_hash were `equal` to the row's, `other`, `empty` (the hash of
    nothing), or `unknown`, because the row has pictures: the harness hashes where in memory they lay.
    """

    def __init__(self, source: str, columns: Columns, by_place: bool):
        self.examples: ExampleSet = load_examples(source, columns, on_bad_row="skip")
        self.hashes: Counter[str] = Counter()
        places = self.examples.rows_K.tolist() if by_place else self._ids()
        self._index = {str(place): i for i, place in enumerate(places)}
        self._what = "row" if by_place else "id"

    def _ids(self) -> list[str]:
        return [example_id for example_id, _, _ in self.examples.texts()]

    def row(self, given: ImportedRow) -> tuple[str, ImportedRow]:
        """(our id, the row as the data has it). Raises RowError where the data has no such row, or one whose
        gold does not take the harness's answer."""
        if given.key not in self._index:
            raise RowError("not_in_data", f"--data has no {self._what} {given.key}")
        i = self._index[given.key]
        example = self.examples[i]
        if given.gold and not golds_agree(example.answer, given.gold):
            raise RowError(
                "another_answer",
                f"the right answer is {given.gold[:60]!r} in the file and {example.answer[:60]!r} in --data",
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
