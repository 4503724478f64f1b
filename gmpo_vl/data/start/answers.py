"""Which column of a table holds the answer, and how it is read: by names and values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gmpo_vl.data.letters import folded
from gmpo_vl.data.mapping import columns_of, is_template
from gmpo_vl.data.options import Options, readings
from gmpo_vl.data.start.chats import CHATS, read_chat
from gmpo_vl.data.start.columns import choices_of
from gmpo_vl.data.start.names import MOST, Guess, Sample, named
from gmpo_vl.data.stated import stated_answer
from gmpo_vl.data.template_filters import given_texts, marked_answer
from gmpo_vl.data.values import is_empty, parsed, texts_in, withheld

_ANSWER = (
    *("answer", "ground_truth", "gold", "gold_answer", "gt", "gt_answer", "correct_answer", "final_answer"),
    *("answer_text", "reference_answer", "label", "target", "correct", "correct_option", "correct_choice"),
    *("correct_choice_idx", "correct_idx", "correct_index", "answer_idx", "answer_index", "answer_key"),
    *("multiple_choice_answer", "expected_answer", "reference", "reward_model", "answers", "direct_answers"),
    *("solution", "output", "response", "completion", "bbox", "box", "bounding_box", "gt_bbox", *CHATS),
)
_FORMS = ("text", "letter", "number", "index")  # of an answer that names a choice
_SHORT = 200  # characters; a longer text is a solution, no answer
_WORDS_OF_A_SENTENCE = 6
_SHOWN = 40  # characters of an example
_AGREED = 0.3  # of the people who were asked
_UNABLE = "unanswerable"  # VizWiz's and TextVQA's people, where the picture does not say
_YES_OR_NO = re.compile(
    r"\s*(?:<image>\s*)?(?:is|are|was|were|do|does|did|can|could|has|have|will|would)\b", re.I
)


def guess_answer(sample: Sample, taken: Sequence[str], choices: Guess | None, problem: Guess) -> Guess:
    """taken: columns that hold something else. With choices, an answer that names one is preferred."""
    columns = [name for name in sample.columns if name not in taken]
    found: list[Guess] = []
    refused: list[str] = []
    for name in named(columns, _ANSWER, ("answer", "gold", "truth")):
        spec, why = _answer_spec(sample, name)
        if spec is None:
            refused += [f"{name!r} {why}"] if why else []
            continue
        if choices is not None and "true and false" in why:
            found.append(Guess("answer", name, "its name"))  # of the choices True and False
        found.append(Guess("answer", spec, why))
    if choices is not None:
        options = choices_of(sample, choices.value)
        naming = (guess for guess in found if _names_choices(sample.values(guess.value), options))
        found = [*naming, *found]
    if found and choices is not None:
        return found[0]
    if found:
        return _with_alternatives(sample, _no_polarity(sample, found[0], problem))
    return Guess("answer", None, "; ".join(["no column has a usual name and short answers", *refused]))


def _with_alternatives(sample: Sample, answer: Guess) -> Guess:
    """MM-Vet writes right answers as `a<OR>b`, and parts that an answer must all have as `a<AND>b`."""
    golds = [str(gold) for gold in sample.filled(answer.value)] if answer.value else []
    either, all_of = (sum(f"<{word}>" in gold for gold in golds) for word in ("OR", "AND"))
    if not either and not all_of:
        return answer
    why = answer.why
    value = answer.value
    if either and (is_template(value) or value.isidentifier()):
        inner = value.strip("{} ") if is_template(value) else value
        value = f"{{{{ ({inner}).split('<OR>') }}}}"
        why += f"; <OR> ({either} rows) parts answers of which any is right"
    if all_of:
        why += f"; <AND> ({all_of} rows) asks for several answers together, which no gold can say: `keep`"
    return replace(answer, value=value, why=why)


def guess_keep(sample: Sample, answer: Guess, choices: Guess | None) -> Guess | None:
    """Without the rows of which an answer must have several parts."""
    if choices is not None or not answer.value:
        return None
    names = columns_of(answer.value) & set(sample.columns)
    joined = [n for n in names if n.isidentifier() and any("<AND>" in str(v) for v in sample.filled(n))]
    if len(joined) != 1:
        return None
    why = "<AND> in an answer: only one that has all parts is right, and no reward can be told so"
    return Guess("keep", f"'<AND>' not in {joined[0]} | string", why)


def _answer_spec(sample: Sample, name: str) -> tuple[str | None, str]:
    """(column or template, why), or (None, why not)."""
    values = sample.filled(name)
    if len(values) < len(sample.rows) / 2:
        return None, "is empty in most rows"
    if chat := read_chat(name, values):
        if chat.reply is None:
            return None, ""
        longer = f"; {chat.num_longer} of {len(values)} chats go on: only their first question is taken"
        spec, why = _text_spec(sample, chat.reply, "{{ " + chat.reply + " }}")
        return spec, f"the reply in {name!r}, {why}{longer if chat.num_longer else ''}"
    if all(isinstance(value, Mapping) for value in values):
        for key in named([str(key) for key in values[0]], _ANSWER):
            if name.isidentifier() and key.isidentifier():
                return _text_spec(sample, f"{name}.{key}", f"{{{{ {name}.{key} }}}}")
        return None, "holds mappings"
    if all(isinstance(value, bool) for value in values) and name.isidentifier():
        return f"{{{{ 'yes' if {name} else 'no' }}}}", "its name; true and false become yes and no"
    if (word := withheld(values)) is not None:
        return None, f"is {word!r} in every row: the answers are withheld"
    lists = [
        parsed(value.strip()) if isinstance(value, str) and value[:1] == "[" else value for value in values
    ]
    if all(isinstance(value, list | tuple) for value in lists):
        if name.isidentifier() and (count := num_agreed(lists)):
            return _people_spec(sample, name, count)
        if all(isinstance(value, list | tuple) for value in values):
            return _list_spec(name, values)
    if all(isinstance(value, str) and texts_in(value.strip()) for value in values):
        return name, "its name; a list of right answers, written as text"
    return _text_spec(sample, name, name)


def num_agreed(lists: Sequence[Sequence[Any]]) -> int:
    """How many people must have given an answer that counts, where lists hold the answers of several people,
    some of which agree: 3 of 10, as VQA's accuracy pays in full. 0 for other lists, such as of spellings.
    """
    typical = sorted(map(len, lists))[len(lists) // 2]
    asked = any(isinstance(item, Mapping) and "answer_confidence" in item for one in lists for item in one)
    repeating = sum(len(set(map(folded, given))) < len(given) for given in map(given_texts, lists))
    least = round(_AGREED * typical)
    return least if least > 1 and (asked or 2 * repeating >= len(lists)) else 0


def _people_spec(sample: Sample, name: str, count: int) -> tuple[str, str]:
    spec = f"{{{{ {name} | given_by({count}) }}}}"
    agreed = [texts_in(value) or [] for value in sample.filled(spec)]
    why = f"several people's answers, of which those count that {count} or more gave"
    if missing := len(sample.rows) - len(agreed):
        why += f"; {missing} of {len(sample.rows)} rows have none and are dropped"
    if unable := sum(_UNABLE in map(folded, texts) for texts in agreed):
        spec = f"{{{{ {name} | given_by({count}) | reject('equalto', '{_UNABLE}') | list }}}}"
        why += f"; {_UNABLE!r} (in {unable}) is no answer, unless you take `reject` away"
    return spec, why


def _list_spec(name: str, values: Sequence[Any]) -> tuple[str | None, str]:
    items = [item for value in values for item in value]
    lengths = {len(value) for value in values}
    if all(isinstance(item, int | float) for item in items) and lengths != {1}:
        if len(lengths) > 1 or not name.isidentifier():
            return None, "holds lists of numbers"
        return f"{{{{ {name} }}}}", f"its name; the {lengths.pop()} numbers of a row are one value"
    if all(isinstance(item, str | int | float) for item in items):
        return name, "its name; a list of right answers"
    keys = named([str(key) for key in items[0]] if isinstance(items[0], Mapping) else [], _ANSWER)
    if name.isidentifier() and keys and all(isinstance(i, Mapping) and keys[0] in i for i in items):
        spec = f"{{{{ {name} | map(attribute='{keys[0]}') | list }}}}"
        return spec, "its name; a list of right answers, any of which counts"
    return None, "holds lists of mappings"


def _text_spec(sample: Sample, expression: str, spec: str) -> tuple[str | None, str]:
    texts = [str(value) for value in sample.filled(spec)]
    marked = [text for text in texts if marked_answer(text) is not None]
    stated = [text for text in marked if stated_answer(text) is not None]
    can_be_filtered = is_template(spec) or spec.isidentifier()
    filtered = f"{{{{ {expression} | final_answer }}}}"
    if can_be_filtered and len(marked) >= MOST * len(texts) > 0:
        example = f"; from {_end(stated[0])} {marked_answer(stated[0])!r} is taken" if stated else ""
        return filtered, f"its texts {'state' if stated else 'mark'} the answer{example}"
    if can_be_filtered and len(stated) > (1 - MOST) * len(texts):
        said = f"states the answer in words in {len(stated)} of {len(texts)} rows, as in {_end(stated[0])}"
        return None, f'{said}: "{filtered}" takes it and drops the other rows'
    if sum(len(text) <= _SHORT for text in texts) < MOST * len(texts):
        return None, "holds long texts that mark no answer"
    if sum(map(_is_sentence, texts)) >= MOST * len(texts):
        return spec, f"its name; WHOLE SENTENCES such as {_end(texts[0])}: a model must say the same words"
    return spec, "its name, and short values"


def _is_sentence(text: str) -> bool:
    return len(text.split()) >= _WORDS_OF_A_SENTENCE and text.rstrip().endswith((".", "!"))


def _end(text: str) -> str:
    """The end of a text, for a message."""
    text = " ".join(text.split())
    return repr(text if len(text) <= _SHOWN else f"...{text[-_SHOWN:]}")


def _no_polarity(sample: Sample, answer: Guess, problem: Guess) -> Guess:
    """0 and 1 in answer to questions of yes and no: no value, for only the user knows which is yes."""
    golds = {str(value) for value in sample.filled(answer.value)}
    if golds != {"0", "1"} or problem.value is None:
        return answer
    asked = [bool(_YES_OR_NO.match(str(text))) for text in sample.filled(problem.value)]
    if sum(asked) < MOST * len(asked):
        return answer
    template = f"\"{{{{ 'yes' if {answer.value} | int else 'no' }}}}\""
    why = f"{answer.value!r} answers questions of yes and no with 0 and 1: {template} if 1 is yes"
    return Guess("answer", None, why)


# --- how an answer names a choice -------------------------------------------------------------------------
def _names_choices(values: Sequence[Any], options: Sequence[Options | None]) -> bool:
    pairs = [(v, o) for v, o in zip(values, options) if o and not is_empty(v)]
    return bool(pairs) and sum(bool(readings(value, o)) for value, o in pairs) >= MOST * len(pairs)


def guess_answer_is(sample: Sample, choices: Guess, answer: Guess) -> Guess | None:
    """None where a row's answer says by itself how it names a choice, as letters and texts do."""
    if answer.value is None:
        return None
    pairs = zip(sample.values(answer.value), choices_of(sample, choices.value))
    found = [readings(value, options) for value, options in pairs if options and not is_empty(value)]
    read = [forms for forms in found if forms]
    if not read or all(_is_clear(forms) for forms in read):
        return None
    ways = {
        form: tuple(tuple(one[form]) for one in read) for form in _FORMS if all(form in one for one in read)
    }
    if len(set(ways.values())) != 1:  # rows will be refused, and say what they could mean
        return None
    form = next(iter(ways))
    why = {"index": "a 0 is among the answers", "number": "the last choice's number is among them"}
    return Guess("answer_is", form, why.get(form, "every answer names a choice so"))


def _is_clear(forms: Mapping[str, list[int]]) -> bool:
    """Whether `answer_is: auto` reads it, as `options` says: no bare number, but for one that is a label."""
    seen = {form: places for form, places in forms.items() if form not in ("index", "number")}
    ways = seen if "label" in seen else forms
    return bool(seen) and len({tuple(sorted(places)) for places in ways.values()}) == 1
