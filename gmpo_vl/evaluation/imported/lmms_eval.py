"""lmms-eval's sample files (DATE_samples_TASK.jsonl).

A line is a row: doc_id, target, input (the prompt's text), filtered_resps and resps (left out where it says
the same), token_counts, doc_hash, and a key for each metric. The options of a choice are no key: they stand
in a metric, in `doc` (older versions), in the prompt, or in the rows of --data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmpo_vl.data.rows import MAX_ID_LENGTH, RowError
from gmpo_vl.evaluation.imported.rows import (
    ImportedRow,
    Scanned,
    gold_or_fault,
    listed_options,
    options_shown,
    plain_text,
    small,
    without_secrets,
)
from gmpo_vl.evaluation.imported.verdicts import NONE, NoVerdict, official_key, verdicts
from gmpo_vl.evaluation.protocols import template_names
from gmpo_vl.samples import OFFICIAL
from gmpo_vl.storage.files import parse_object

OURS = "gmpo_vl"  # what our export adds to a line
OURS_IS_CALLED = "gmpo-vl"
_GRADED_BY = (
    "template",
    "answer_in",
    "benchmark",
    "grader",
    "grader_options",
)  # what it says of its verdicts
_ANSWER_IN = ("box", "tag", "any")
_NO_METRICS = {
    *("doc_id", "doc", "target", "arguments", "input", "resps", "filtered_resps", "token_counts"),
    *("doc_hash", "prompt_hash", "target_hash", "input_media", "filter", "metrics", "submission"),
    *("format_score", OURS),
}
_NAME = re.compile(r"(?:(?P<date>.+)_)?samples_(?P<task>.+)\.jsonl")
_OPTIONS = ("choices", "options")
_TYPES_OF_TEXTS = ("text", "integer", "float", "list")  # MathVista's answer_type: its answers are texts
_LARGEST_RESULTS = 2**26  # bytes of DATE_results.json


class LmmsEval:
    """A file's rows. Lines are read one after the other. official: as in `official_key`."""

    by_place = True

    def __init__(self, path: Path, rows: Scanned, first: Sequence[Mapping[str, Any]], official: str | None):
        self._rows = rows
        metrics = dict.fromkeys(key for row in first for key in row if key not in _NO_METRICS)
        ours: Mapping[str, Any] = next((row[OURS] for row in first if isinstance(row.get(OURS), dict)), {})
        self._graded_by = {key: ours[key] for key in _GRADED_BY if key in ours}
        _check_ours(path, self._graded_by)
        if ours and official is None:  # the other metrics are our own verdicts
            official = OFFICIAL if OFFICIAL in metrics else NONE
        self.official = official_key(first, metrics, official)
        self.harness = "lmms-eval"
        if ours:
            known = ("lmms-eval", "VLMEvalKit")
            self.harness = ours["harness"] if ours.get("harness") in known else OURS_IS_CALLED
        name = _NAME.fullmatch(path.name)
        task = name["task"] if name else path.stem
        folder = path.parent.name if name and "__" in path.parent.name else None
        self.facts: dict[str, Any] = {"task": task, "model": folder, "metrics": list(metrics)}
        self.facts |= _beside(path, name, self.official)
        self.facts |= self._graded_by

    def __iter__(self) -> Iterator[ImportedRow | RowError]:
        for row in self._rows.scan(()):
            try:
                yield row if isinstance(row, RowError) else self._read(row)
            except RowError as error:
                yield error

    def _read(self, row: Mapping[str, Any]) -> ImportedRow:
        if not isinstance(row.get("doc_id"), int | str):
            raise RowError("no_key", f"doc_id is {row.get('doc_id')!r:.60}")
        responses = _responses(row)
        metric = row.get(self.official) if self.official else None
        try:
            official = verdicts(metric, len(responses))
        except NoVerdict as error:
            raise ValueError(f"doc_id {row['doc_id']}: {self.official}: {error}. {_OTHERS}") from error
        ours = row[OURS] if isinstance(row.get(OURS), dict) else {}
        if {key: ours[key] for key in _GRADED_BY if key in ours} != self._graded_by:
            raise RowError(
                "another_export", f"its {OURS} says of the grader something else than the first line"
            )
        question = _prompt(row)
        own = metric if isinstance(metric, Mapping) else {}
        stated = ours.get("gold")
        gold, fault = (stated, None) if isinstance(stated, str) else _gold(row, question, own)
        return ImportedRow(
            key=str(row["doc_id"]),
            name=ours["id"][:MAX_ID_LENGTH] if isinstance(ours.get("id"), str) else "",
            question=question,
            gold=gold,
            fault=fault,
            responses=responses,
            official=official,
            lengths=_lengths(row, len(responses)),
            doc_hash=str(row.get("doc_hash") or ""),
            meta=small(own, ("true_false", "score", "correct", "question", "query", "answer")),
        )


_OTHERS = "--official NAME takes another of its metrics, --official none does without"


def _check_ours(path: Path, graded_by: Mapping[str, Any]) -> None:
    """Raises ValueError for what no export of ours says of its grader."""
    for key, value in graded_by.items():
        known = {"answer_in": _ANSWER_IN, "template": ("imported", *template_names())}.get(key)
        kind = dict if key == "grader_options" else str
        if not isinstance(value, kind) or (known and value not in known):
            one = f"one of {', '.join(known)}" if known else "an object" if kind is dict else "a text"
            raise ValueError(f"{path}: {OURS}.{key} is {value!r:.60}, and must be {one}")


def _responses(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The raw responses; filtered ones where no others are stored. Raises RowError."""
    stored = row.get("resps") or row.get("filtered_resps")
    if _are_likelihoods(stored):
        raise RowError("log_likelihoods", "the options were weighed, and no answer was written")
    found = tuple(_texts(stored))
    if not found:
        raise RowError("no_answer_stored", "neither resps nor filtered_resps holds a text")
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif value is not None:
        raise RowError("no_text", f"a response is of type {type(value).__name__}")


def _are_likelihoods(value: Any) -> bool:
    """[[-1.2, False], ...], of numbers or of their texts, however deep."""
    while isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    if not (isinstance(value, list) and len(value) == 2 and str(value[1]) in ("True", "False")):
        return False
    try:
        float(value[0])
    except (TypeError, ValueError):
        return False
    return True


def _prompt(row: Mapping[str, Any]) -> str:
    """The text of `input`, or the first text of `arguments`, as some versions call it."""
    value = row.get("input") or row.get("arguments")
    while isinstance(value, list | Mapping) and value:
        if isinstance(value, list):
            value = value[-1] if isinstance(value[-1], Mapping) and "content" in value[-1] else value[0]
        else:
            value = value.get("content") or next(iter(value.values()))
    return value if isinstance(value, str) else ""


def _gold(row: Mapping[str, Any], question: str, metric: Mapping[str, Any]) -> tuple[str, RowError | None]:
    """With the options of a metric or of `doc`, else with those that the prompt shows. Of a worked solution
    (GSM8K's) what stands behind its ####."""
    target = row.get("target")
    if isinstance(target, str) and "\n#### " in target:
        target = target.rpartition("#### ")[2].strip()
    holders = [value for value in row.values() if isinstance(value, Mapping)]
    found = (listed_options(holder.get(key)) for holder in holders for key in _OPTIONS)
    options = next(filter(None, found), [])
    kind = "text" if metric.get("answer_type") in _TYPES_OF_TEXTS else None
    return gold_or_fault(target, options, [] if options else options_shown(question), kind)


def _lengths(row: Mapping[str, Any], n: int) -> tuple[int, ...]:
    counts = row.get("token_counts")
    counts = counts if isinstance(counts, list) and len(counts) == n else [None] * n
    found = [count.get("output_tokens") if isinstance(count, Mapping) else None for count in counts]
    return tuple(number if type(number) is int and 0 < number < 2**31 else 0 for number in found)


def _beside(path: Path, name: re.Match[str] | None, official: str | None) -> dict[str, Any]:
    """What DATE_results.json states, where it lies beside the samples."""
    file = path.with_name(f"{name['date']}_results.json") if name and name["date"] else None
    if file is None or name is None or not file.is_file() or file.stat().st_size > _LARGEST_RESULTS:
        return {}
    try:
        stated = parse_object(file.read_bytes())
    except ValueError:
        return {"results_file": f"{file.name} is no JSON"}
    config, task = _object(stated, "config"), _object(_object(stated, "configs"), name["task"])
    figures = _object(_object(stated, "results"), name["task"])
    found = {
        "results_file": file.name,
        "model": plain_text(str(stated.get("model_name") or config.get("model") or "")),
        "model_args": without_secrets(config.get("model_args")),
        "sampling": without_secrets(task.get("generation_kwargs")),
        "gen_kwargs": without_secrets(config.get("gen_kwargs")),
        "repeats": repeats if isinstance(repeats := task.get("repeats"), int) else None,
        "git_hash": plain_text(str(stated.get("git_hash") or "")),
        "stated": _figure(figures, official),
    }
    return {key: value for key, value in found.items() if value not in (None, "", {}, [])}


def _figure(figures: Mapping[str, Any], official: str | None) -> float | None:
    """The harness's own total by that metric, where it is a number."""
    value = next((value for key, value in figures.items() if key.partition(",")[0] == official), None)
    return value if isinstance(value, int | float) and abs(value) < math.inf else None


def _object(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
