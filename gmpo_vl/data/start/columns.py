"""Which columns of a table hold the problem, the answer, the choices, the id: by their names and values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gmpo_vl.data.mapping import MappingFile, is_template
from gmpo_vl.data.options import Options, choices_of_row, readings
from gmpo_vl.data.rows import RowError
from gmpo_vl.data.start.names import CHOICES, MOST, Guess, Sample, named, series, words
from gmpo_vl.data.template_filters import marked_answer
from gmpo_vl.data.values import is_empty, texts_in

_CHATS = ("conversations", "conversation", "messages", "dialogue", "dialog", "chat", "turns")
_PROBLEM = (
    *("problem", "question", "query", "prompt", "instruction", "question_text", "query_wo", "query_cot"),
    *("input", "text", "user_prompt", *_CHATS),
)
_ANSWER = (
    *("answer", "ground_truth", "gold", "gold_answer", "gt", "gt_answer", "correct_answer", "final_answer"),
    *("answer_text", "reference_answer", "label", "target", "correct", "correct_option", "correct_choice"),
    *("correct_choice_idx", "correct_idx", "correct_index", "answer_idx", "answer_index", "answer_key"),
    *("multiple_choice_answer", "expected_answer", "reference", "reward_model", "answers", "direct_answers"),
    *("solution", "output", "response", "completion", "bbox", "box", "bounding_box", "gt_bbox", *_CHATS),
)
_STEMS_OF_CHOICES = ("", "option", "choice", "opt", "answer", "candidate")
_CONTEXT = ("context", "passage", "hint")
_ID = (
    *("id", "qid", "question_id", "pid", "sample_index", "sample_id", "data_id", "problem_id", "example_id"),
    *("uid", "uuid", "key", "idx", "index"),
)
_ROLES = (("from", "value"), ("role", "content"))
_ASKS = ("human", "user")
_REPLIES = ("gpt", "assistant", "model", "bot", "chatgpt")
_IMAGE_PARTS = (
    ("image", "image"),
    ("image_url", "image_url.url"),
    ("image", "url"),
    ("input_image", "image_url"),
)
_MOST_KINDS = 8  # of questions, that a column tells apart
_FORMS = ("text", "letter", "number", "index")  # of an answer that names a choice
# Words in the name of a text that is about the answer or the picture.
_TOLD = frozenset(
    "answer solution explanation rationale caption description reasoning lecture analysis path".split()
)
_LONG = 15  # characters of a problem, on average
_SHORT = 200  # characters; a longer text is a solution, no answer
_FOREIGN_TAGS = (
    "<img>",
    "<IMG>",
    "<Image>",
    "<IMAGE>",
    "<ImageHere>",
    "<image_placeholder>",
    "<|image_pad|>",
)
_YES_OR_NO = re.compile(
    r"\s*(?:<image>\s*)?(?:is|are|was|were|do|does|did|can|could|has|have|will|would)\b", re.I
)


# --- the problem ------------------------------------------------------------------------------------------
def guess_problem(sample: Sample, taken: Sequence[str]) -> Guess:
    """taken: columns that hold pictures."""
    columns = [name for name in sample.columns if name not in taken]
    found: list[tuple[float, str, str]] = []
    for name in named(columns, _PROBLEM, ("question", "problem", "query")):
        for spec, why in _problem_specs(sample, name):
            share = len(sample.filled(spec)) / len(sample.rows)
            if share > 0.98:
                return Guess("problem", *_with_context(sample, *_with_tags(sample, spec, why)))
            found.append((share, spec, why))
    if found:
        share, spec, why = max(found, key=lambda one: one[0])
        if share >= 0.5:
            empty = f"{why}; {1 - share:.0%} of the rows have none and will be dropped"
            return Guess("problem", *_with_context(sample, *_with_tags(sample, spec, empty)))
    asking = [name for name in columns if _ask(sample.filled(name))]
    if len(asking) == 1:
        return Guess("problem", *_with_tags(sample, asking[0], "its texts end with question marks"))
    long = [name for name in columns if not set(words(name)) & _TOLD and _differ(sample.values(name))]
    if len(long) == 1:
        return Guess(
            "problem", *_with_tags(sample, long[0], "the only column of longer texts that all differ")
        )
    return Guess("problem", None, "no column has a usual name")


def _problem_specs(sample: Sample, name: str) -> list[tuple[str, str]]:
    values = sample.filled(name)
    if chat := read_chat(name, values):
        return (
            [(f"{{{{ {chat.question} }}}}", f"the first message of the user in {name!r}")]
            if chat.question
            else []
        )
    is_text = sum(isinstance(value, str) for value in values) > MOST * len(values) > 0
    return [(name, "its name, and texts in it")] if is_text else []


def _differ(values: Sequence[Any]) -> bool:
    texts = [value for value in values if isinstance(value, str)]
    return len(set(texts)) == len(values) > 1 and sum(map(len, texts)) > _LONG * len(texts)


def _ask(values: Sequence[Any]) -> bool:
    ends = [isinstance(value, str) and value.rstrip().endswith(("?", "？")) for value in values]
    return sum(ends) > MOST * len(ends) > 0


def _with_tags(sample: Sample, spec: str, why: str) -> tuple[str, str]:
    """Other trainers' marks of a picture become <image>."""
    texts = [value for value in sample.filled(spec) if isinstance(value, str)]
    if any("<image>" in text for text in texts):
        return spec, why
    tag = next((tag for tag in _FOREIGN_TAGS if any(tag in text for text in texts)), None)
    if tag is None or not (is_template(spec) or spec.isidentifier()):
        return spec, why
    inner = spec.strip("{} ") if is_template(spec) else spec
    return f"{{{{ ({inner}) | replace('{tag}', '<image>') }}}}", f"{why}; {tag} marks a picture"


def _with_context(sample: Sample, spec: str, why: str) -> tuple[str, str]:
    """The text that a question is about goes in front of it."""
    usable = [name for name in named(sample.columns, _CONTEXT) if name.isidentifier() and name != spec]
    context = next((c for c in usable if any(isinstance(v, str) for v in sample.filled(c))), None)
    if context is None or is_template(spec) or not spec.isidentifier():
        return spec, why
    template = f"{{% if {context} %}}{{{{ {context} }}}}\n{{% endif %}}{{{{ {spec} }}}}"
    return template, f"{why}; {context!r} in front: take it away where it tells the answer"


# --- chats ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Chat:
    """Expressions of jinja for the first question of a chat column, and for the reply to it."""

    question: str | None
    reply: str | None
    num_longer: int  # chats with a second question


def read_chat(name: str, values: Sequence[Any]) -> Chat | None:
    """How chats of this column are read; None where it holds no chats. A template needs a plain name."""
    if not values or not name.isidentifier() or not all(map(_is_chat, values)):
        return None
    role, content = next(keys for keys in _ROLES if keys[0] in values[0][0])
    asked = [[i for i, turn in enumerate(v) if turn.get(role) in _ASKS] for v in values]
    replied = [[i for i, turn in enumerate(v) if turn.get(role) in _REPLIES] for v in values]
    in_parts = any(not isinstance(turn.get(content), str) for value in values for turn in value)

    def turn(places: list[list[int]], who: tuple[str, ...]) -> str | None:
        firsts = {place[0] if place else None for place in places}
        if firsts == {None}:
            return None
        picked = f"{name}[{next(iter(firsts))}]"
        if len(firsts) > 1:
            picked = f"({name} | selectattr('{role}', 'in', {list(who)}) | first)"
        return f"{picked}.{content}" + (" | as_text" if in_parts else "")

    return Chat(turn(asked, _ASKS), turn(replied, _REPLIES), sum(len(places) > 1 for places in asked))


def _is_chat(value: Any) -> bool:
    if (
        not isinstance(value, list | tuple)
        or not value
        or not all(isinstance(turn, Mapping) for turn in value)
    ):
        return False
    return any(all(keys[0] in turn and keys[1] in turn for turn in value) for keys in _ROLES)


def guess_images_in_chat(sample: Sample) -> Guess | None:
    """Pictures that are parts of the first question's content, as OpenAI's messages have them."""
    for name in named(sample.columns, _CHATS):
        chat = read_chat(name, sample.filled(name))
        content = chat and chat.question and chat.question.removesuffix(" | as_text")
        if not chat or not content or content == chat.question:
            continue
        for kind, place in _IMAGE_PARTS:
            chosen = f"selectattr('type', 'equalto', '{kind}') | map(attribute='{place}') | list"
            spec = f"{{{{ {content} | {chosen} | tojson }}}}"
            found = [texts_in(value) for value in sample.filled(spec)]
            if found and sum(bool(texts) for texts in found) >= MOST * len(sample.rows):
                return Guess("images", spec, f"parts of the messages in {name!r}")
    return None


# --- the choices ------------------------------------------------------------------------------------------
def guess_choices(sample: Sample, taken: Sequence[str]) -> Guess | None:
    columns = [name for name in sample.columns if name not in taken]
    usable = [c for c in named(columns, CHOICES, ("options", "choices", "candidates")) if c not in taken]
    for name in usable:
        if (count := num_with_choices(sample, name)) > 0:
            return Guess("choices", name, f"its name, and choices in {count} of {len(sample.rows)} rows")
    run = series(columns, _STEMS_OF_CHOICES)
    if run and num_with_choices(sample, run) > 0:
        return Guess("choices", run, "columns with a letter or number each")
    return None


def unread_choices(sample: Sample, taken: Sequence[str]) -> Guess | None:
    """What is to be asked where a column is called after choices, and none can be read in it."""
    for name in named(sample.columns, CHOICES):
        held = [value for value in sample.filled(name) if not is_empty(value)]
        if name not in taken and name.endswith("s") and held:
            why = f"{name!r} holds no list that can be read, such as {str(held[0])[:40]!r}: a template can"
            return Guess("choices", None, f"{why} say it; take the line away if rows have none")
    return None


def guess_choices_in(sample: Sample, problem: Guess, answer: Guess) -> Guess | None:
    """Choices that problems show and that golds name, by letter or text. Problems without any are free."""
    if problem.value is None or answer.value is None:
        return None
    options = choices_of(sample, problem.value, in_problem=True)
    pairs = [(o, value) for o, value in zip(options, sample.values(answer.value)) if o]
    named = [bool({"letter", "text"} & set(readings(value, o))) for o, value in pairs]
    if not any(named):
        return None
    said = "the problem shows them, and the answers name them"
    if all(named):
        return Guess("choices", problem.value, said)
    names = iter(named)
    spec = _where(sample, problem.value, [bool(o) and next(names) for o in options])
    if spec is not None and num_with_choices(sample, spec) == sum(named):
        return Guess("choices", spec, f"there {said}")
    most = sum(named) >= MOST * len(named)
    return Guess("choices", problem.value, f"{said}, but for a few") if most else None


def _where(sample: Sample, spec: str, wanted: Sequence[bool]) -> str | None:
    """A template that gives the column where another one, such as question_type, says so: in the wanted rows
    and in no others. None where no column tells them apart.
    """
    for name in named(sample.columns, (), ("type", "kind", "format", "style", "task"), about=True):
        values = sample.values(name)
        if not (name.isidentifier() and spec.isidentifier() and all(isinstance(v, str) for v in values)):
            continue
        inside = {value for value, is_wanted in zip(values, wanted) if is_wanted}
        others = {value for value, is_wanted in zip(values, wanted) if not is_wanted}
        if len(inside) == 1 and len(others) <= _MOST_KINDS and not inside & others:
            return f"{{{{ {spec} if {name} == {inside.pop()!r} else '' }}}}"
    return None


def num_with_choices(sample: Sample, choices: str | list[str]) -> int:
    """Rows with two choices or more; 0 where a tenth of the rows cannot be read so."""
    found = choices_of(sample, choices)
    failed = sum(options is None for options in found)
    return sum(bool(o) and len(o.texts) > 1 for o in found if o) if failed <= len(found) / 10 else 0


def choices_of(sample: Sample, choices: str | list[str], in_problem: bool = False) -> list[Options | None]:
    """The choices of every row; None where they cannot be read. in_problem: the problem shows them."""
    mapping = MappingFile(Path(), "", str(choices) if in_problem else "", "", choices=choices)

    def read(row: Mapping[str, Any]) -> Options | None:
        if isinstance(choices, str) and not is_template(choices) and choices not in row:
            return Options([], [])
        try:
            return choices_of_row(row, mapping)
        except RowError:
            return None

    return [read(row) for row in sample.rows]


# --- the answer -------------------------------------------------------------------------------------------
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
    if found:
        first = _no_polarity(sample, found[0], problem) if choices is None else found[0]
        joined = first.value and any(
            re.search("<AND>|<OR>", str(gold)) for gold in sample.filled(first.value)
        )
        return replace(first, why=f"{first.why}; <AND> and <OR> in it mean nothing here") if joined else first
    return Guess("answer", None, "; ".join(["no column has a usual name and short answers", *refused]))


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
    if all(isinstance(value, list | tuple) for value in values):
        return _list_spec(name, values)
    if all(isinstance(value, str) and texts_in(value.strip()) for value in values):
        return name, "its name; a list of right answers, written as text"
    return _text_spec(sample, name, name)


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
    marked = sum(marked_answer(text) is not None for text in texts)
    can_be_filtered = is_template(spec) or spec.isidentifier()
    if can_be_filtered and marked >= MOST * len(texts) > 0:
        return f"{{{{ {expression} | final_answer }}}}", "its texts mark the answer"
    if sum(len(text) <= _SHORT for text in texts) < MOST * len(texts):
        return None, "holds long texts that mark no answer"
    return spec, "its name, and short values"


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


# --- the id -----------------------------------------------------------------------------------------------
def id_columns(sample: Sample) -> list[str]:
    """Columns of a usual name that differ from row to row among the rows looked at."""
    return [name for name in named(sample.columns, _ID) if _are_ids(sample.values(name))]


def _are_ids(values: Sequence[Any]) -> bool:
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        return False
    return len({str(value) for value in values}) == len(values) and max(len(str(v)) for v in values) <= 100
