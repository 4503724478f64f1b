"""The options of a multiple-choice row as they come, and what names the right one.

Options come as a list of texts, with or without letters; as one text (`A. x; B. y`, one a line, or a question
with its choices below); as {"A": "x", ...}, a list of {"label": "A", "text": "x"}, {"label": [...], "text":
[...]}; as columns; as JSON or Python text of any of these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from gmpo_vl.data.answers import LETTERS, AnswerError, encode_answer, written
from gmpo_vl.data.letters import folded, lettered_text, letters_in, line_of, named_by_letters, own_letter
from gmpo_vl.data.mapping import MappingFile, optional_value
from gmpo_vl.data.pictures.folder import PICTURES
from gmpo_vl.data.rows import RowError, stored_picture
from gmpo_vl.data.values import is_empty, parsed, texts_in

_TEXT_KEYS = ("text", "content", "value", "option_text", "choice", "option", "answer", "name")
_LABEL_KEYS = ("label", "key", "letter", "id", "index", "name", "option", "choice")
_LABEL = re.compile(
    r"(?:option|choice|opt|answer|选项)?[\s_-]*[(\[]?([A-Za-z]|\d{1,2})[)\]]?[.:]?", re.IGNORECASE
)
_COUNTED = ("index", "number")  # from 0, from 1
_WHOLE = re.compile(r"(\d+)(?:\.0+)?")  # pandas writes 1.0 where a column of numbers has an empty cell
_MAX_TEXT = 200_000  # characters of options in one text
_COMPARED = 500  # characters of an option that are looked for in the problem


@dataclass(frozen=True)
class Options:
    """texts: of A, B, ... without letters. labels: what the row calls them, where it does. moved: the row has
    them in another order than their labels, so no number can count them.
    """

    texts: list[str]
    labels: list[str]
    moved: bool = False

    def __bool__(self) -> bool:
        return bool(self.texts)


def choices_of_row(row: Mapping[str, Any], mapping: MappingFile) -> Options:
    """The options of the row, none where it has none. Raises RowError."""
    if mapping.choices is None:
        return Options([], [])
    if isinstance(mapping.choices, list):
        pairs = [(name, optional_value(row, name, "choices")) for name in mapping.choices]
        options = _options([(name, "" if str(value) == "nan" else value) for name, value in pairs])
    else:
        value = optional_value(row, mapping.choices, "choices")
        in_problem = mapping.choices == mapping.problem and isinstance(value, str)
        options = (_lettered(value) or Options([], [])) if in_problem else _read(value)
    if mapping.image_marks is not None and mapping.image_place == "front":  # the marks will be taken out
        mark = re.compile(re.escape(mapping.image_marks).replace(re.escape("{n}"), r"\d{1,3}"))
        drawn = [letter if mark.fullmatch(text) else text for letter, text in zip(LETTERS, options.texts)]
        options = replace(options, texts=drawn)
    if not options and mapping.answer_type == "choice":
        raise RowError("choices", "this row has no choices, and answer_type is choice")
    if len(options.texts) == 1 and mapping.answer_type in (None, "choice"):
        raise RowError("choices", f"{options.texts[0][:80]!r} is the only choice")
    return options


def read_options(value: Any) -> list[str]:
    """The texts of options that come in any of the forms above, their letters taken off once; [] for none.

    Raises RowError("choices").
    """
    return _read(value).texts


def _read(value: Any) -> Options:
    value = _plain(value)
    if isinstance(value, str):
        text = value.strip()
        value = parsed(text) if text[:1] in ("[", "{", "(") or text.startswith("array(") else None
        if not isinstance(value, list | tuple | dict):
            return _of_text(text)
    if is_empty(value):
        return Options([], [])
    if isinstance(value, Mapping):
        return _options(_pairs(value))
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return _options(items if _are_labelled(items) else [pair for item in items for pair in _item(item)])
    raise RowError("choices", f"the choices are of type {type(value).__name__}, not a list")


def _plain(value: Any) -> Any:
    """Arrays of numpy and their like as lists and Python's numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def _pairs(value: Mapping[Any, Any]) -> list[tuple[str | None, Any]]:
    """(label, text) of a dict: {"A": "x"}, or {"label": [...], "text": [...]}."""
    texts, labels = _key(value, _TEXT_KEYS, list), None
    if texts is not None:
        labels = _key(value, [key for key in _LABEL_KEYS if key != texts], list)
        values = _plain(value[texts])
        names = [None] * len(values) if labels is None else _plain(value[labels])
        if len(names) != len(values):
            raise RowError("choices", f"{len(names)} labels for {len(values)} choices")
        return list(zip(names, values))
    if not all(_LABEL.fullmatch(str(key)) for key in value):
        raise RowError("choices", f"the choices are called {', '.join(map(str, value))[:80]}, not A, B, ...")
    return [(str(key), text) for key, text in value.items()]


def _are_labelled(items: Sequence[Any]) -> bool:
    """Are these [["A", "x"], ["B", "y"]]? Other pairs are values: points, ranges, two letters of points."""
    if not all(isinstance(item, list | tuple) and len(item) == 2 for item in items):
        return False
    marks = [_LABEL.fullmatch(label) if isinstance(label, str) else None for label, _ in items]
    names = [mark[1].upper() if mark else "" for mark in marks]
    return sorted(names) == list(LETTERS[: len(items)]) and not all(
        isinstance(text, str) and re.fullmatch("[A-Za-z]", text) for _, text in items
    )


def _item(item: Any) -> list[tuple[str | None, Any]]:
    """(label, text) of an item of a list: a text, {"label": "A", "text": "x"}, {"A": "x"}."""
    if not isinstance(item, Mapping):
        return [(None, item)]
    text = _key(item, _TEXT_KEYS)
    if text is None:
        return _pairs(item) if len(item) == 1 else [(None, item)]
    label = _key(item, [key for key in _LABEL_KEYS if key != text])
    return [(None if label is None else str(item[label]), item[text])]


def _key(value: Mapping[Any, Any], keys: Sequence[str], kind: type = object) -> str | None:
    return next((key for key in keys if key in value and isinstance(_plain(value[key]), kind)), None)


def _options(pairs: Sequence[tuple[Any, Any]]) -> Options:
    """Options of (label, value). Only the last ones may be empty: an empty one before a filled one would give
    the later ones other letters than the gold means.
    """
    given = [label for label, _ in pairs]
    pairs = _in_order([(label, _plain(value)) for label, value in pairs])
    moved = given != [label for label, _ in pairs]
    while pairs and is_empty(pairs[-1][1]):
        pairs.pop()
    for number, (label, value) in enumerate(pairs, 1):
        if is_empty(value):
            raise RowError("choices", f"the choice {label or number} is empty, and a later one is not")
        if _is_picture(value):
            raise RowError("choices", f"the choice {label or number} is a picture: {_PICTURED}")
        if not isinstance(value, str | int | float):
            raise RowError(
                "choices", f"the choice {label or number} is of type {type(value).__name__}, no text"
            )
    if len(pairs) > len(LETTERS):
        raise RowError("choices", f"{len(pairs)} choices, more than there are letters")
    _, texts = named_by_letters([written(value) for _, value in pairs])
    return Options(texts, [str(label) for label, _ in pairs if label is not None], moved)


_PICTURED = (
    "name the columns of pictures in `images`, write each option's letter with <image> in `problem`, and "
    "leave `choices` away, as docs/data.md shows"
)


def _is_picture(value: Any) -> bool:
    """An encoded picture, as `datasets` holds it, too; or the name of its file."""
    value = stored_picture(value) if isinstance(value, Mapping) and {"bytes", "path"} & set(value) else value
    is_name = isinstance(value, str) and "\n" not in value and value.strip().lower().endswith(PICTURES)
    return isinstance(value, bytes) or hasattr(value, "getbands") or is_name


def _in_order(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The options in the order of the letters or numbers that they are called by.

    Raises RowError for letters that are not A, B, ...
    """
    names = [
        m[1].upper() if label is not None and (m := _LABEL.fullmatch(str(label))) else ""
        for label, _ in pairs
    ]
    if not all(names):
        return pairs
    count = len(names)
    orders = (LETTERS[:count], [str(n + 1) for n in range(count)], [str(n) for n in range(count)])
    for order in orders:
        if set(names) == set(order) and len(set(names)) == count:
            return [pairs[names.index(name)] for name in order]
    if any(map(str.isalpha, names)):
        raise RowError("choices", f"the choices are called {', '.join(names)}, not A, B, ... without a gap")
    return pairs


# --- options in one text ----------------------------------------------------------------------------------
def _of_text(text: str) -> Options:
    if is_empty(text):
        return Options([], [])
    if len(letters := letters_in(text)) > 1 and LETTERS.startswith(letters):  # drawn in the picture
        return Options(list(letters), [])
    if found := _lettered(text):
        return found
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and not any(line.endswith(("?", "？")) for line in lines):
        return _options([(None, line) for line in lines])
    raise RowError(
        "choices",
        f"the choices {text[:80]!r} are no list, no lines and carry no letters; "
        "a template can part them: \"{{ COLUMN.split(',') }}\"",
    )


def _lettered(text: str) -> Options | None:
    try:
        found = lettered_text(text[:_MAX_TEXT])
    except ValueError as error:
        raise RowError("choices", f"the choices {text[:80]!r} cannot be told apart: {error}") from error
    return Options(found[1], []) if found else None


# --- the problem ------------------------------------------------------------------------------------------
def with_choices(problem: str, choices: Options, mapping: MappingFile) -> str:
    """The problem with its choices below it, unless it shows them. CountDown's numbers are in it already.

    Raises RowError where it shows them under other letters.
    """
    if not choices or mapping.choices_written or mapping.answer_type not in (None, "choice"):
        return problem
    drawn = [text == letter for letter, text in zip(LETTERS, choices.texts)]
    marks = list(islice(_MARK.finditer(problem), _MOST_MARKS))
    shown = [_letters_before("" if d else text, problem, marks) for text, d in zip(choices.texts, drawn)]
    if all(letter in found for letter, found in zip(LETTERS, shown)):
        return problem
    if not any(drawn) and all(shown):
        raise RowError("choices", "the problem shows these choices, but not under the letters of `choices`")
    return "\n".join([problem, *(line_of(letter, text) for letter, text in zip(LETTERS, choices.texts))])


_MARK = re.compile(
    r"(?<![A-Za-z0-9])(?P<mark>[(\[（【]\s?([A-Z])\s?[)\]）】]|([A-Z])\s?[.:：、．)）])[.:：、．]?[\s*$~]*",
    re.IGNORECASE,
)
_MOST_MARKS = 1_000  # of options, that are looked at in a problem


def _letters_before(text: str, problem: str, marks: Sequence[re.Match[str]]) -> set[str]:
    """The letters that stand as marks before an option's text in the problem."""
    signs = re.sub(r"[\s$]", "", text[:_COMPARED])
    found = (m for m in marks if any(_stands_at(signs, problem, at) for at in (m.end(), m.end("mark"))))
    return {(match[2] or match[3]).upper() for match in found}


def _stands_at(signs: str, problem: str, at: int) -> bool:
    """Whether a text stands there, in any case and with other spaces and dollars, and ends there."""
    for sign in signs:
        while problem[at : at + 1].isspace() or problem[at : at + 1] == "$":
            at += 1
        if problem[at : at + 1].lower() != sign.lower():
            return False
        at += 1
    return not (signs[-1:].isalnum() and _GOES_ON.match(problem, at))


_GOES_ON = re.compile(r"\.?\d|[A-Za-z]")


# --- the answer -------------------------------------------------------------------------------------------
def answer_of_row(value: Any, choices: Options, mapping: MappingFile) -> Any:
    """The `answer` column: the value, or `encode_answer` of it with a type, a tolerance or choices."""
    if choices and mapping.answer_type in (None, "choice"):
        letters = ", ".join(LETTERS[i] for i in _right_ones(_plain(value), choices, mapping.answer_is))
        return encode_answer(letters, type="choice", tolerance=mapping.tolerance, choices=choices.texts)
    value = _listed(_plain(value), mapping.answer_type == "list")
    if value is None or (mapping.answer_type is None and mapping.tolerance is None):
        return value
    numbers = choices.texts if mapping.answer_type == "countdown" else None
    try:
        return encode_answer(value, type=mapping.answer_type, tolerance=mapping.tolerance, choices=numbers)
    except AnswerError as error:
        raise RowError("empty_answer", error.problem) from error


def _listed(value: Any, are_items: bool) -> Any:
    """A list of right texts, also one that comes as text, each of them once; any other value as it is.

    are_items: all are right together. Else raises RowError for several numbers: they are a box, a point or
    a range as often as alternatives.
    """
    if isinstance(value, str):
        listed = texts_in(value.strip())
        value = value if listed is None else listed
    if not isinstance(value, list | tuple):
        return value
    if not are_items and len(value) > 1 and all(isinstance(item, int | float) for item in value):
        raise RowError(
            "answer_form",
            f'the answer is the list of numbers {str(value)[:60]}: "{{{{ COLUMN }}}}" makes one value of it, '
            "\"{{ COLUMN | map('string') | list }}\" numbers of which any is right",
        )
    return list({str(item): item for item in value}.values())


def _right_ones(value: Any, options: Options, form: str) -> list[int]:
    """The places of the right options, in order. Raises RowError("answer_choice").

    A bare number is not guessed: rows that can only count from 0, or only from 1, would be kept alone.
    """
    if is_empty(value):
        raise RowError("empty_answer", "the answer is empty")
    found = readings(value, options)
    if form == "auto":
        seen = {name: places for name, places in found.items() if name not in _COUNTED}
        is_text = "text" in found and not written(value).isdecimal()  # 1.0 among 0.5, 1.0, 1.5
        found = seen if "label" in found or is_text else found
        ways = list(found.values()) if seen else []
    else:
        # ARC calls the options of some rows 1, 2, ...: what the row calls one is its letter there.
        name = "label" if form == "letter" and form not in found else form
        ways = [found[name]] if name in found else []
    if ways and all(sorted(places) == sorted(ways[0]) for places in ways):
        return sorted(ways[0])
    said = f"the answer {str(value)[:60]!r}"
    if form == "auto" and found:
        may = ", ".join(f"as {name} {_in_letters(places)}" for name, places in found.items())
        raise RowError("answer_choice", f"{said} can name a choice {may}; answer_is says how it names one")
    same = [i for i, text in enumerate(options.texts) if folded(text) == folded(written(value))]
    if len(same) > 1 and form in ("auto", "text"):
        raise RowError(
            "answer_choice", f"{said} is the text of {len(same)} equal choices: {_in_letters(same)}"
        )
    wrongly = "names none" if form == "auto" else f"is no {form}"
    moved = " (no number counts them: the row has them in another order than their labels)" * options.moved
    raise RowError(
        "answer_choice",
        f"{said} {wrongly} of {len(options.texts)} choices{moved}; answer_is says how it names one",
    )


def _in_letters(places: Sequence[int]) -> str:
    return ", ".join(LETTERS[place] for place in places)


def readings(value: Any, options: Options) -> dict[str, list[int]]:
    """What an answer can mean: {way to read it: the places of the options that it names then}.

    The ways are `letter`, `index` (from 0), `number` (from 1), `text` and `label` (what the row calls it).
    A list, or the text of one, names several options, all of them right.
    """
    value = _plain(value)
    if not isinstance(value, list | tuple):
        found = {} if is_empty(value) or isinstance(value, Mapping) else _readings(written(value), options)
        listed = parsed(value.strip()) if isinstance(value, str) and value.strip()[:1] == "[" else None
        if found or not isinstance(listed, list):
            return found
        value = listed
    each = [{} if isinstance(item, list | Mapping) else _readings(written(item), options) for item in value]
    forms = [form for form in (each[0] if each else ()) if all(form in found for found in each)]
    places = {form: [place for found in each for place in found[form]] for form in forms}
    return {form: found for form, found in places.items() if len(set(found)) == len(found)}


def _readings(text: str, options: Options) -> dict[str, list[int]]:
    count = len(options.texts)
    found: dict[str, list[int]] = {}
    letters = [LETTERS.index(letter) for letter in letters_in(text)]
    own = own_letter(text)
    place = LETTERS.index(own[0]) if own else count
    if letters and max(letters) < count:
        found["letter"] = letters
    elif own and place < count and folded(own[1]) == folded(options.texts[place]):  # A. 300
        found = {"letter": [place], "text": [place]}
    if same := _places(text, options.texts):
        found["text"] = same
    whole = _WHOLE.fullmatch(text)
    if called := _places(whole[1] if whole else text, options.labels):
        found["label"] = called
    if (whole := _WHOLE.fullmatch(text)) and not options.moved:
        number = int(whole[1])
        found |= {form: [n] for form, n in (("index", number), ("number", number - 1)) if 0 <= n < count}
    return found


def _places(text: str, texts: Sequence[str]) -> list[int]:
    """Where the text is the only one of its kind: as it is written, else without case and marks."""
    for kind in (str.strip, folded):
        places = [i for i, other in enumerate(texts) if kind(other) == kind(text)]
        if places:
            return places if len(places) == 1 else []
    return []
