"""A first run over a new data set: a reward that fits its answers, lengths and batches that fit its rows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gmpo_vl.data.answers import encoded_fields
from gmpo_vl.data.letters import letters_in
from gmpo_vl.data.start.names import MOST, words
from gmpo_vl.data.templates import answer_place
from gmpo_vl.data.values import texts_in
from gmpo_vl.storage.places import PACKAGED

TINY = f"{PACKAGED}models/pretrained"
CHART_TOLERANCE = 0.05  # ChartQA's: values are read off an axis
_CHARTS = frozenset(("chart", "charts", "chartqa", "plot", "plots", "plotqa", "figureqa", "dvqa"))
_DOCUMENTS = frozenset(("docvqa", "infographicvqa", "infographicsvqa", "infovqa", "ucsf"))
_BOXES = frozenset(("box", "boxes", "bbox", "bboxes", "boundingbox", "bounding"))
_BOX = re.compile(r"\[\s*-?[\d.]+(?:\s*,\s*-?[\d.]+){3}\s*\]")
_PIXELS_PER_TOKEN = 28 * 28  # of the Qwen models
_AROUND = 128  # tokens of the chat template and of what `format_prompt` adds, with room
_WITHOUT_DIGITS = re.compile(r"[^\d\\=]+")
_WORDS = re.compile(r"(?!(?:[A-Z]{2,4}|[a-z])$)[^\W\d_]{2}")
_AMOUNT = re.compile(r"[-+]?[$€£]? ?[\d,]*\.?\d+ ?(?:%|°|[A-Za-z.]+)?")
_FORMULA = re.compile(
    r"\\|[=^√π<>*]|\d ?/ ?\d|(?<![\w-])[a-zA-Z](?![\w'.&-]) ?[-+]|[-+] ?[a-zA-Z](?![\w'.&-])"
)


@dataclass(frozen=True)
class Size:
    """What a model is given. bytes_per_token: of text, on the safe side."""

    bytes_per_token: int
    max_pixels: int
    max_response_length: int


_OF_TINY = Size(1, 50_176, 32)
_OF_REAL = Size(2, 1_048_576, 1024)


@dataclass(frozen=True)
class RunPlan:
    """The values of NAME_run.yaml, and why the reward and the prompt are as they are."""

    model: str
    reward: str
    reward_why: str
    format_prompt: str
    prompt_why: str
    max_prompt_length: int
    longest: int
    max_response_length: int
    max_pixels: int
    rollout_batch_size: int
    global_batch_size: int

    @property
    def is_tiny(self) -> bool:
        return self.model == TINY


def plan_run(
    model: str, rows: Sequence[Mapping[str, Any]], golds: Iterable[Any], called: Iterable[str], num_rows: int
) -> RunPlan:
    """rows: mapped ones, {problem, answer, images}. golds: as the table has them. called: the names of table
    and columns. num_rows: of the train split.
    """
    size = _OF_TINY if model == TINY else _OF_REAL
    places = [answer_place(str(row["problem"])) for row in rows]
    asked = next((p for p in ("tag", "box") if rows and places.count(p) >= MOST * len(rows)), None)
    reward, why = guess_reward([str(row["answer"]) for row in rows], golds, called)
    if asked == "tag":
        reward, why = "r1v", "the problems ask for an answer in <answer>"
    prompt = (
        ("boxed", "asks for the answer in a box") if asked is None else ("plain", "the problems ask already")
    )
    longest = max((_tokens(row, size) for row in rows), default=512) + _AROUND
    batch = 2 ** min(3, int(math.log2(max(1, num_rows))))
    return RunPlan(
        model,
        reward,
        why,
        *prompt,
        max_prompt_length=64 * math.ceil(1.25 * longest / 64),
        longest=longest,
        max_response_length=size.max_response_length,
        max_pixels=size.max_pixels,
        rollout_batch_size=batch,
        global_batch_size=max(1, batch // 2),
    )


def _tokens(row: Mapping[str, Any], size: Size) -> int:
    text = len(str(row["problem"]).encode("utf-8", "replace")) // size.bytes_per_token
    return text + len(row["images"]) * (size.max_pixels // _PIXELS_PER_TOKEN + 2)


def guess_reward(answers: Sequence[str], golds: Iterable[Any], called: Iterable[str]) -> tuple[str, str]:
    """(reward, why). answers: the `answer` column."""
    called = list(called)
    listed = [_listed(gold) for gold in golds]
    texts = [str(item) for items in listed for item in items]
    if not texts:
        return "accuracy", "reads numbers, formulas, words and letters"
    if all(_BOX.fullmatch(answer) for answer in answers) and answers and _is_about(called, _BOXES):
        return "iou", "the answers are boxes of four numbers"
    choices, most = sum(_is_choice(answer) for answer in answers), MOST * len(texts)
    if choices and choices >= MOST * len(answers):
        return "choice", "the rows have choices"
    if choices == 0 and sum(len(letters_in(text)) == 1 for text in texts) >= most:
        return "choice", "the answers are letters"
    if is_chart(called) and any(map(_is_number, texts)):
        return "numeric", "values read off a chart count within 5%"
    if choices == 0 and _is_about(called, _DOCUMENTS):
        return "anls", "words read off documents, where a slip of a letter is nearly right"
    if choices == 0 and sum(len(set(items)) > 1 for items in listed) > len(listed) / 2:
        return "text", "several people's words for an answer"
    if choices == 0 and sum(_WITHOUT_DIGITS.fullmatch(text) is not None for text in texts) >= most:
        return "text", "the answers are words"
    if _mostly_words(_open_texts(answers) if choices else texts):
        return "text", "the answers are words and numbers: letters are no symbols, and two is 2"
    return "accuracy", "reads numbers, formulas, words and letters"


def _mostly_words(texts: Sequence[str]) -> bool:
    """Whether texts are words and numbers: few formulas, and among the texts that are no numbers more words
    than names of points and sides (AB).
    """
    words_in = sum(_WORDS.search(text) is not None for text in texts)
    others = sum(_AMOUNT.fullmatch(text.strip()) is None for text in texts)
    formulas = sum(_FORMULA.search(text) is not None for text in texts)
    few = len(texts) - MOST * len(texts)
    return formulas <= few and words_in >= max(2 * few, others / 2, 1)


def _open_texts(answers: Sequence[str]) -> list[str]:
    """The golds of the answers without choices."""
    golds = [
        (encoded_fields(answer) or {"gold": answer})["gold"] for answer in answers if not _is_choice(answer)
    ]
    return [str(item) for gold in golds for item in _listed(gold)]


def _listed(gold: Any) -> Sequence[Any]:
    """The alternatives of a gold."""
    listed = texts_in(gold.strip()) if isinstance(gold, str) else gold
    return listed if isinstance(listed, list | tuple) and listed else [gold]


def is_chart(called: Iterable[str]) -> bool:
    return _is_about(called, _CHARTS)


def _is_about(called: Iterable[str], telling: frozenset[str]) -> bool:
    return any(telling & set(words(name)) for name in called)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[\d,]*\.?\d+%?", text.strip()) is not None


def _is_choice(answer: str) -> bool:
    try:
        return answer.startswith("{") and json.loads(answer).get("type") == "choice"
    except ValueError:
        return False
