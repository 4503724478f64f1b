"""A reward as TRL and ms-swift call one: with all completions, and every column of the data as a list."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.data.values import is_empty
from gmpo_vl.rewards.about import describe
from gmpo_vl.rewards.inputs import OF_THE_ROW, inputs_of
from gmpo_vl.rewards.loading import Reward, Score, load_reward
from gmpo_vl.storage.names import closest
from gmpo_vl.types import Example

Completion = str | list[dict[str, Any]]
# The column that a field of the row is taken from, or the first that there is of several. `meta` is the rest.
_COLUMNS = {"id": ("id",), "problem": ("problem",), "images": ("images", "image")}
_OWN_OPTIONS = ("part", "answers", "asynchronous", "name")  # of reward(), beside the reward's


def reward(
    spec: str = "geometry3k",
    *,
    part: str = "overall",
    answers: str = "solution",
    asynchronous: bool = False,
    name: str | None = None,
    **options: Any,
) -> ColumnReward:
    """A reward for `reward_funcs`.

    spec: a built-in's name (`gmpo-vl rewards` describes them), or FILE.py:FUNCTION.
    part: of the score that is returned. With `overall` the others are logged, where the trainer offers it.
    answers: the column of the right answers: texts, numbers, lists of which any one is right, or what
        `gmpo_vl.encode_answer` wrote. Empty items of a list do not count. A row without an answer, and a
        response that the reward could not score, give None.
    asynchronous: score in a thread beside the trainer's other asynchronous rewards; for one that waits for
        an endpoint.
    name: in metrics and messages; None: gmpo_vl_REWARD, or gmpo_vl_REWARD_PART. TRL adds up the metrics of
        rewards that have one name.
    options: the reward's own.

    ValueError for a reward, an option or an option's value that cannot be, and for a part that a built-in
    reward has not; of a reward of one's own the parts are known after its first scores.
    """
    for key, value in {"part": part, "answers": answers, "name": name}.items():
        if not (isinstance(value, str) and value) and not (key == "name" and value is None):
            raise ValueError(f"reward({spec!r}): {key} is {value!r:.80}; it is a text")
    kind = AsynchronousColumnReward if asynchronous else ColumnReward
    return kind(spec, part, answers, name, options)


class ColumnReward:
    """Called with a batch's completions and columns, it returns a number or None for each.

    ValueError for a column that is missing, and for answers that the reward cannot read.
    """

    asynchronous = False

    def __init__(
        self, spec: str, part: str, answers: str, name: str | None, options: Mapping[str, Any]
    ) -> None:
        self._made = {"spec": spec, "part": part, "answers": answers, "name": name, **options}
        self._part, self._answers = part, answers
        self._reward = _loaded(spec, options)
        if not self._reward.by_path:
            self._check_part(describe(spec.partition(":")[0]).parts)
        self.__name__ = name or "gmpo_vl_" + _short(spec) + ("" if part == "overall" else f"_{part}")

    def __reduce__(self) -> tuple[Callable[..., ColumnReward], tuple[()]]:
        return partial(reward, asynchronous=self.asynchronous, **self._made), ()

    def __call__(self, completions: Sequence[Completion], **given: Any) -> Any:
        return self.score(completions, **given)

    def score(
        self,
        completions: Sequence[Completion],
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **given: Any,
    ) -> list[float | None]:
        """given: the data's columns, and whatever else the trainer hands to a reward."""
        given.pop("prompts", None)  # TRL's own
        columns = {k: v for k, v in given.items() if isinstance(v, list) and len(v) == len(completions)}
        golds = [gold_text(value) for value in self._column((self._answers,), columns, "the answers")]
        row = self._rows(columns)
        inputs, at = [], []
        for i, gold in enumerate(golds):
            if gold is None:
                continue
            example = _example(gold, {field: values[i] for field, values in row.items()})
            tokens = len(completion_ids[i]) if completion_ids is not None else 0
            [one] = inputs_of(self._reward.asks, example, [(text_of(completions[i]), tokens)])
            if completion_ids is None:  # not known here: a reward that reads it says so
                del one["response_length"]
            inputs.append(one)
            at.append(i)
        scores = self._reward.scores(inputs) if inputs else []
        if log_metric is not None and self._part == "overall":
            self._log(scores, log_metric)
        found: list[float | None] = [None] * len(completions)
        for i, score in zip(at, scores):
            found[i] = self._part_of(score)
        return found

    def _rows(self, columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """What the reward asks for of every row, by the field of an Example."""
        asked = {OF_THE_ROW[name] for name in self._reward.asks}
        rows = {
            field: self._column(names, columns, f"each row's {field}")
            for field, names in _COLUMNS.items()
            if field in asked
        }
        if "meta" in asked:
            taken = {self._answers, *(name for names in _COLUMNS.values() for name in names)}
            rest = {name: values for name, values in columns.items() if name not in taken}
            count = len(columns[self._answers])
            rows["meta"] = [{name: values[i] for name, values in rest.items()} for i in range(count)]
        return rows

    def _column(self, names: Sequence[str], columns: Mapping[str, list[Any]], what: str) -> list[Any]:
        for name in names:
            if name in columns:
                return columns[name]
        wanted = " or ".join(repr(name) for name in names)
        other = f"; where it is another, write answers=COLUMN in reward({self._made['spec']!r})"
        raise ValueError(
            f"{self.__name__}: {what} should be in the column {wanted}, and the data have {sorted(columns)}"
            f"{other if self._answers in names else ''} (remove_unused_columns=False keeps all columns)"
        )

    def _part_of(self, score: Score) -> float | None:
        if score["overall"] is None:
            return None
        self._check_part(score)
        return score[self._part]

    def _check_part(self, parts: Mapping[str, Any]) -> None:
        if self._part not in parts:
            raise ValueError(
                f"the reward {self._made['spec']!r} has no part {self._part!r}; it has {', '.join(parts)}"
            )

    def _log(self, scores: Sequence[Score], log_metric: Callable[[str, float], None]) -> None:
        for part in sorted({part for score in scores for part in score} - {"overall"}):
            values = [value for score in scores if (value := score.get(part)) is not None]
            log_metric(f"{self.__name__}/{part}", sum(values) / len(values))


class AsynchronousColumnReward(ColumnReward):
    asynchronous = True

    async def __call__(self, completions: Sequence[Completion], **given: Any) -> list[float | None]:
        return await asyncio.to_thread(self.score, completions, **given)


def text_of(completion: Completion) -> str:
    """What the model said last: of plain text all of it, of a conversation the last message's text, if it is
    the model's. Thoughts that a chat template took out are back in <think>."""
    if isinstance(completion, str):
        return completion
    last = completion[-1] if completion else {}
    if last.get("role", "assistant") != "assistant":
        return ""
    content = last.get("content") or ""
    if not isinstance(content, str):
        content = "".join(block.get("text") or "" for block in content if block.get("type") == "text")
    thoughts = last.get("reasoning_content") or last.get("thinking")
    return f"<think>{thoughts}</think>{content}" if thoughts else content


def gold_text(gold: Any) -> str | None:
    """A gold as rewards read it. None for a row without one: nothing, NaN, a blank text, a list of these.

    Numbers and arrays of numpy are Python's. ValueError for a gold, or an item of a list, of another type.
    """
    gold = _plain(gold)
    given = gold if isinstance(gold, list) else [gold]
    for one in given:
        if isinstance(one, bool) or not isinstance(one, str | int | float | None):
            found = f"the answer {gold!r:.80} {'is' if one is gold else 'holds'} a {type(one).__name__}"
            raise ValueError(f"{found}; write a text, a number or a list of them")
    golds = [one for one in given if not is_empty(one)]
    if not golds:
        return None
    return gold if isinstance(gold, str) else encode_answer(golds)


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays as Python's; they have `tolist`, as other libraries' have."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _loaded(spec: str, options: Mapping[str, Any]) -> Reward:
    try:
        return load_reward(spec, options)
    except ValueError as error:
        meant = [f"{own}=" for key in options if (own := closest(key, _OWN_OPTIONS, cutoff=0.8))]
        if not meant:
            raise
        raise ValueError(f"{error} (did you mean {', '.join(meant)} of the plugin?)") from error


def _example(gold: str, row: Mapping[str, Any]) -> Example:
    """An Example with the fields that the reward asked for."""
    images: tuple[Any, ...] = ()
    if (stored := row.get("images")) is not None:
        from gmpo_vl.data.rows import stored_picture

        images = tuple(map(stored_picture, stored if isinstance(stored, list) else [stored]))
    return Example(
        id=str(row.get("id", "")),
        problem=row.get("problem") or "",
        answer=gold,
        images=images,
        meta=row.get("meta") or {},
    )


def _short(spec: str) -> str:
    """A reward's name in metrics: letters, digits and underscores."""
    place, _, function = spec.partition(":")
    words = f"{Path(place).stem}_{function}" if place.endswith(".py") else place
    return re.sub(r"\W", "_", words)
