"""What another harness's file says of a question and of its settings: one form for all harnesses."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gmpo_vl.data.answers import LETTERS, encode_answer, written
from gmpo_vl.data.letters import folded, lettered_text
from gmpo_vl.data.options import Options, readings
from gmpo_vl.data.rows import RowError, is_small_scalar
from gmpo_vl.data.values import is_empty, parsed, texts_in

ERROR_TEXTS = (
    "Failed to obtain answer",
    "[FAILED]",
    "Error:",
)  # what harnesses write where a model was silent
FULL_CELL = 32_767  # what a cell of a workbook holds: characters, those above U+FFFF twice
FULL_CELLS = "(full cells)"  # the key of a workbook's row under which the names of its full cells stand


class Scanned(Protocol):
    """A file's rows in order; `scan` yields RowError in place of one that cannot be read. notes: how the file
    was read, where that is not what everybody expects; known when a row was read."""

    @property
    def notes(self) -> Sequence[str]: ...
    def scan(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any] | RowError]: ...


@dataclass(frozen=True)
class ImportedRow:
    """A question and its answers.

    key: what the harness calls the row (doc_id, index). name: its id here, where our export says it. gold: as
    the answer column of our data has it; empty where the file has none. official: the harness's verdict on
    each response, from 0 to 1; None for none. lengths: tokens of each response; 0 where they are not stated.
    cut: the cell was full, so the response may go on. doc_hash: lmms-eval's hash of its row. fault: why the
    gold could not be read; rows of --data have another.
    """

    key: str
    question: str
    gold: str
    responses: tuple[str, ...]
    official: tuple[float | None, ...]
    lengths: tuple[int, ...]
    cut: bool = False
    doc_hash: str = ""
    name: str = ""
    fault: RowError | None = None
    meta: dict[str, Any] = field(default_factory=dict)


class Reader(Protocol):
    """A harness's file: `harness` its name, `facts` what it states of task, model and sampling, `official`
    the key whose values are its verdicts (None: it has none), `by_place` whether a key is the row's number in
    the data (else the row's id)."""

    harness: str
    facts: dict[str, Any]
    official: str | None
    by_place: bool

    def __iter__(self) -> Iterator[ImportedRow | RowError]: ...


def gold_of(answer: Any, options: Sequence[str], shown: Sequence[str] = (), kind: Any = None) -> str:
    """The `answer` column for a harness's answer, with its options where it names one of them by letter or by
    text. Empty where there is no answer.

    options: stated as such. shown: without those, what the prompt shows; a free answer below a list that
    looks like options stays one. kind: `text` where the harness says that an answer is an option's text.
    Raises RowError for what is no answer, names no option, or one by its letter and another by its text.
    """
    if is_empty(answer):
        return ""
    items = answer if isinstance(answer, list | tuple) else [answer]
    if not all(isinstance(item, str | int | float) for item in items):
        raise RowError("gold", f"the right answer is of type {type(answer).__name__}: {answer!r:.60}")
    if options or (shown and _is_of_options(answer, shown)):
        letters = _letters_named(answer, Options(list(options or shown), []), kind)
        return encode_answer(letters, type="choice", choices=list(options or shown))
    if isinstance(answer, str) and (said := answer.strip(" .\t\r\n")).lower() in ("yes", "no"):
        return encode_answer(said, type="text")  # "Yes, it is." is right, too
    try:
        return answer if isinstance(answer, str) else encode_answer(answer)
    except ValueError as error:
        raise RowError("gold", str(error)) from error


def gold_or_fault(*given: Any) -> tuple[str, RowError | None]:
    """`gold_of` of these, or an empty gold and why it cannot be read."""
    try:
        return gold_of(*given), None
    except RowError as error:
        return "", error


def _is_of_options(answer: Any, shown: Sequence[str]) -> bool:
    """Whether an answer can only be meant as one of the options: it names some, or would, were there more."""
    if readings(answer, Options(list(shown), [])):
        return True
    said = str(answer).strip()
    return re.fullmatch(r"\(?[A-Z]\)?", said) is not None or folded(said) in map(folded, shown)


def _letters_named(answer: Any, options: Options, kind: Any) -> str | list[str]:
    """`A`, or `A, C`; a list of letters for the text of equal options. Raises RowError("answer_choice")."""
    found = readings(answer, options)
    plain = str(answer) if isinstance(answer, list | tuple) else written(answer)
    letter, text = found.get("letter"), found.get("text")
    places = letter if text is None else text
    if places is None:
        same = [place for place, option in enumerate(options.texts) if folded(option) == folded(plain)]
        if same:
            return [LETTERS[place] for place in same]
        what = f"neither the letter nor the text of one of {len(options.texts)} options"
        raise RowError("answer_choice", f"the right answer {plain[:60]!r} is {what}")
    others = {
        form: found[form] for form in ("letter", "index", "number") if found.get(form, places) != places
    }
    is_long = len(plain) > 1 and not plain.isdecimal()  # AC is a text, B and 2 may be both
    if others and text is not None and not is_long and kind != "text":
        ways = ", ".join(
            f"by {form} {_in_letters(named)}" for form, named in {"text": text, **others}.items()
        )
        raise RowError("answer_choice", f"the right answer {plain[:60]!r} names {ways}: --data says which")
    return _in_letters(places)


def _in_letters(places: Sequence[int]) -> str:
    return ", ".join(LETTERS[place] for place in sorted(places))


def listed_options(value: Any) -> list[str]:
    """The texts of a column of options: a list, or the text of one; none of anything else."""
    listed = texts_in(value.strip()) if isinstance(value, str) else value
    if isinstance(listed, list | tuple) and all(isinstance(item, str | int | float) for item in listed):
        return [written(item) for item in listed] if len(listed) <= len(LETTERS) else []
    return []


_MOST_SHOWN = 20_000  # characters of a question in which options are looked for


def options_shown(question: str) -> list[str]:
    """The options that stand in a question as A., B., ...; none where they cannot be told apart."""
    try:
        found = lettered_text(question[:_MOST_SHOWN])
    except ValueError:
        return []
    return found[1] if found and found[0] == list(LETTERS[: len(found[0])]) else []


def fills_a_cell(text: str) -> bool:
    """Whether a workbook's writer may have cut it. Older ones count each character once, and newer ones split
    none that counts twice. A longer text is whole: it comes from a tsv or json."""
    if len(text) == FULL_CELL:
        return True
    counted_twice = sum(char > "\uffff" for char in text) if len(text) > FULL_CELL // 2 - 1 else 0
    return FULL_CELL - 1 <= len(text) + counted_twice <= FULL_CELL


def small(values: Mapping[str, Any], without: Sequence[str] = ()) -> dict[str, Any]:
    """The short values, for `meta`."""
    return {key: value for key, value in values.items() if key not in without and is_small_scalar(value)}


# --- settings: known names alone are kept, since any other may hold a key, a token or a header ------------
LEFT_OUT = "..."
_KEPT = frozenset(
    """pretrained model model_name model_path model_id model_version model_type revision tokenizer processor
    dtype torch_dtype device device_map batch_size seed n
    attn_implementation use_flash_attention_2 trust_remote_code enforce_eager load_in_4bit load_in_8bit
    use_cache tensor_parallel_size pipeline_parallel_size data_parallel_size gpu_memory_utilization
    conv_template image_aspect_ratio truncation interleave_visuals enable_thinking fps nframes key_frames
    max_new_tokens max_tokens max_gen_toks max_length max_model_len max_num_seqs max_num_frames max_frames_num
    max_images max_image_size max_pixels min_pixels total_pixels
    max_retries timeout num_concurrent base_url
    temperature do_sample top_p top_k min_p num_beams until stop repetition_penalty presence_penalty
    frequency_penalty length_penalty""".split()
)
_NAME = re.compile(r"[A-Za-z]+(?:[_-][A-Za-z0-9]+)*")
_LONGEST_NAME, _LONGEST_TEXT, _DEEPEST = 40, 200, 8
_USER = re.compile(r"(\w+://)[^\s?#]*@|^[^/\s:@]+:[^/\s@]+@")  # user:password@ of an address
_BEHIND = re.compile(r"(://[^\s?#]*)[?#].*", re.DOTALL)  # of an address: ?api_key=...
_LIKE_A_KEY = re.compile(
    r"\b(?:sk|pk|rk|hf|gsk|xai|nvapi|gh[oprsu]|github_pat|glpat|xox[a-z])[-_]\w"
    r"|\b(?:AKIA|AIza|eyJ)\w|\b(?:bearer|basic)\s+\S|(?:key|token|secret|password|passwd|pwd)\s*[=:]",
    re.IGNORECASE,
)


def without_secrets(value: Any) -> Any:
    """Settings with `...` for the value of every name that is not known to be harmless; addresses without
    user, password and query.

    value: an object, or the text of one (JSON, or as Python prints it), or `name=value,name=value`.
    """
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in ("{", "["):
            found = parsed(text)
            return LEFT_OUT if found is None or isinstance(found, str) else without_secrets(found)
        return ",".join(_argument(part) for part in text.split(",")) if text else ""
    return _walked(value, False, 0)


def _argument(part: str) -> str:
    name, sign, value = part.partition("=")
    if not sign or not _is_name(name.strip()):
        return LEFT_OUT
    return f"{name}={plain_text(value) if _is_kept(name) else LEFT_OUT}"


def _walked(value: Any, kept: bool, depth: int) -> Any:
    """kept: whether the name above is known."""
    if depth > _DEEPEST:
        return LEFT_OUT
    if isinstance(value, Mapping):
        named = {key: part for key, part in value.items() if isinstance(key, str) and _is_name(key)}
        return {key: _walked(part, _is_kept(key), depth + 1) for key, part in named.items()}
    if isinstance(value, list | tuple):
        return [_walked(part, kept, depth + 1) for part in value]
    if value is None or isinstance(value, bool):
        return value
    if not kept:
        return LEFT_OUT
    if isinstance(value, int | float):
        return value if abs(value) < math.inf else str(value)  # JSON has no other numbers
    return plain_text(str(value))


def plain_text(text: str) -> str:
    """A short text without the user and the query of an address; `...` for one that looks like a key."""
    text = _BEHIND.sub(r"\1", _USER.sub(lambda match: match[1] or "", text))
    return LEFT_OUT if _LIKE_A_KEY.search(text) or len(text) > _LONGEST_TEXT else text


def _is_name(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None and not _LIKE_A_KEY.search(name)


def _is_kept(name: str) -> bool:
    return name.strip().lower().replace("-", "_") in _KEPT
