"""VLMEvalKit's tables: MODEL_DATASET.xlsx (or tsv, json), with `prediction`, and the judged ones.

The columns are those of its TSV without pictures: index, question, A to Z (options), answer; `prediction`
is the response. A judge adds `hit`, `score` or `verifier_match` (verdicts), `res`, `extract`, `log`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmpo_vl.data.answers import LETTERS, written
from gmpo_vl.data.letters import line_of
from gmpo_vl.data.rows import RowError
from gmpo_vl.data.values import is_empty
from gmpo_vl.evaluation.imported.rows import (
    FULL_CELLS,
    ImportedRow,
    Scanned,
    fills_a_cell,
    gold_or_fault,
    listed_options,
    options_shown,
    small,
)
from gmpo_vl.evaluation.imported.verdicts import NoVerdict, official_key, verdicts

LOST = "nan"  # in judged tables: a cell that was empty, or said None or NA, which pandas takes for empty
VERDICTS = ("hit", "score", "verifier_match", "eval_score", "correct", "match")
_CIRCULAR = 1_000_000  # what is added to an index for each rotation of the options
_NO_META = (
    *("prediction", "thinking", "answer", "question", "image", "image_path", "choices", "index"),
    FULL_CELLS,
)


class VlmEvalKit:
    """A table's rows. official: as in `official_key`."""

    harness = "VLMEvalKit"
    by_place = False

    def __init__(self, path: Path, rows: Scanned, first: Sequence[Mapping[str, Any]], official: str | None):
        self._rows = rows
        try:
            heads = [_named(row) for row in first]
        except RowError as error:
            raise ValueError(f"{path}: {error}: keep one of them") from error
        columns = dict.fromkeys(key for row in heads for key in row)
        present = list(columns) if official else [key for key in VERDICTS if key in columns]
        # CircularEval's table has the first rotations alone, and hit is 1 where all rotations were right.
        circular = official is None and "g_index" in columns and bool(present)
        self.official = None if circular else official_key(heads, present, official)
        self._has_index = any(not is_empty(row.get("index")) for row in heads)
        model, task = _model_and_task(path)
        self.facts: dict[str, Any] = {"task": task, "model": model, "columns": list(columns)}
        self.facts["circular"] = circular or None

    def __iter__(self) -> Iterator[ImportedRow | RowError]:
        for number, row in enumerate(self._rows.scan(()), start=1):
            try:
                yield row if isinstance(row, RowError) else self._read(_named(row), number)
            except RowError as error:
                yield error

    def _read(self, row: Mapping[str, Any], number: int) -> ImportedRow:
        if is_empty(row.get("index")) == self._has_index:
            what = (
                "it has no index, and others have"
                if self._has_index
                else "it has an index, the first have none"
            )
            raise RowError("no_key", what)
        key = row["index"] if self._has_index else number
        answer, response = (
            None if row.get(name) == LOST else row.get(name) for name in ("answer", "prediction")
        )
        if not isinstance(response, str):  # a workbook's number, or an empty cell
            response = "" if is_empty(response) else written(response)
        is_full = "prediction" in row.get(FULL_CELLS, ()) or fills_a_cell(response)
        verdict = row.get(self.official) if self.official else None
        try:
            official = verdicts(None if is_empty(verdict) else verdict, 1)
        except NoVerdict as error:
            raise ValueError(f"index {key}: {self.official}: {error}. {_OTHERS}") from error
        question = "" if is_empty(row.get("question")) else written(row["question"])
        options, in_question = _options(row), options_shown(question)
        shown = [line_of(letter, text) for letter, text in zip(LETTERS, options)]
        below = shown if options and in_question != options else []
        stated = options or listed_options(row.get("choices"))
        gold, fault = gold_or_fault(answer, stated, in_question)
        return ImportedRow(
            key=written(key),
            question="\n".join([question, *below]),
            gold=gold,
            fault=fault,
            responses=(response,),
            official=official,
            lengths=(0,),
            cut=is_full,
            meta=small(row, (*_NO_META, *LETTERS, self.official or "")),
        )


_OTHERS = "--official NAME takes another column, --official none does without"


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """Columns in lower case, but for the letters of options: the harness reads them so, too. Raises RowError
    for two of one name."""
    stripped = ((str(key).strip(), value) for key, value in row.items())
    pairs = [(name if name in LETTERS else name.lower(), value) for name, value in stripped]
    named = dict(pairs)
    if len(named) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise RowError("columns_twice", f"several columns are called {twice}, but for case")
    if FULL_CELLS in named:
        named[FULL_CELLS] = [name.lower() for name in named[FULL_CELLS]]
    return named


def _options(row: Mapping[str, Any]) -> list[str]:
    """The texts of A, B, ... up to the last that is filled. Raises RowError for a gap: the later ones would
    get other letters than the answer means."""
    filled = [not is_empty(row.get(letter)) for letter in LETTERS]
    count = filled.index(False) if False in filled else len(LETTERS)
    if any(filled[count:]) and (count or "B" in row):
        later = LETTERS[filled.index(True, count)]
        raise RowError("choices", f"the option {LETTERS[count]} is empty, and {later} is not")
    return [written(row[letter]) for letter in LETTERS[:count]] if count > 1 else []


def _model_and_task(path: Path) -> tuple[str | None, str]:
    """(model, the rest of the name), where a folder above the file is called after the model."""
    for folder in (path.parent, path.parent.parent):
        if folder.name and path.stem.startswith(f"{folder.name}_"):
            return folder.name, path.stem.removeprefix(f"{folder.name}_")
    return None, path.stem


def rotations(keys: Collection[str]) -> int:
    """How many indices are those of another row with rotated options (CircularEval)."""
    large = (int(key) for key in keys if key.isdecimal() and len(key) < 10 and int(key) >= _CIRCULAR)
    return sum(str(index % _CIRCULAR) in keys for index in large)
