"""Which columns of a table hold the problem, the choices, the id: by their names and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmpo_vl.data.mapping import MappingFile, is_template
from gmpo_vl.data.options import Options, choices_of_row, readings
from gmpo_vl.data.rows import RowError
from gmpo_vl.data.start.chats import CHATS, read_chat
from gmpo_vl.data.start.names import CHOICES, MOST, Guess, Sample, named, series, words
from gmpo_vl.data.values import is_empty

_PROBLEM = (
    *("problem", "question", "query", "prompt", "instruction", "question_text", "query_wo", "query_cot"),
    *("input", "text", "user_prompt", *CHATS),
)
_STEMS_OF_CHOICES = ("", "option", "choice", "opt", "answer", "candidate")
_CONTEXT = ("context", "passage", "hint")
_ID = (
    *("id", "qid", "question_id", "pid", "sample_index", "sample_id", "data_id", "problem_id", "example_id"),
    *("uid", "uuid", "key", "idx", "index"),
)
_MOST_KINDS = 8  # of questions, that a column tells apart
# Words in the name of a text that is about the answer or the picture.
_TOLD = frozenset(
    "answer solution explanation rationale caption description reasoning lecture analysis path".split()
)
_LONG = 15  # characters of a problem, on average
_FOREIGN_TAGS = (
    "<img>",
    "<IMG>",
    "<Image>",
    "<IMAGE>",
    "<ImageHere>",
    "<image_placeholder>",
    "<|image_pad|>",
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


# --- the id -----------------------------------------------------------------------------------------------
def id_columns(sample: Sample) -> list[str]:
    """Columns of a usual name that differ from row to row among the rows looked at."""
    return [name for name in named(sample.columns, _ID) if _are_ids(sample.values(name))]


def _are_ids(values: Sequence[Any]) -> bool:
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        return False
    return len({str(value) for value in values}) == len(values) and max(len(str(v)) for v in values) <= 100
