"""A protocol: everything that decides what an evaluation's number means, in a file (protocols/NAME.yaml).

The files are frozen, because a number is quoted with a protocol's name. A changed field gives the result
another name (`geometry3k+n=4`). Another protocol is another file; its path is as good as a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from gmpo_vl.storage.files import names_a_folder
from gmpo_vl.storage.yaml_text import read_yaml

FOLDER = Path(__file__).parent / "protocols"
TEMPLATES = Path(__file__).parent / "templates"

# The five sets whose unweighted mean is the paper's average, in the order of its tables.
SUITES = {"text": ("aime24", "amc", "math500", "minerva", "olympiad_bench")}

Pictures = Literal["as_is", "blank", "wrong"]


@dataclass(frozen=True)
class Protocol:
    """What a protocol fixes. Lengths are tokens, areas pixels.

    name: of the result. questions, data_sha256: what the data must be for its numbers to be the protocol's
        (`prepare.data_hash`); None where the published set could not be had, so that it could not be pinned.
    template: how a problem becomes a prompt: `chat` is the model's own chat template, others are
    templates/NAME.jinja. format_prompt: a jinja template of gmpo_vl.data around the problem, before the chat
    template; None: the problem alone. max_model_len: prompt and answer together; an answer is cut there.
    None: only `max_tokens` cuts. grader, benchmark: the profile whose verdicts count, and the name it knows
    the benchmark by (gmpo_vl.verify). chunk: questions that run together, are written together and are redone
    together. vLLM has larger ones of its own. pictures: `blank` and `wrong` are controls: the mean grey, or
    another question's picture, in place of the right one. limit: the first questions only. seed: each
    sample's seed comes from it, the question's id and the sample's number.
    """

    name: str
    about: str
    data: str
    questions: int | None
    data_sha256: str | None
    template: str
    format_prompt: str | None
    min_pixels: int | None
    max_pixels: int | None
    max_prompt_tokens: int
    max_tokens: int
    max_model_len: int | None
    n: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    grader: Literal["strict", "paper"]
    benchmark: str
    chunk: int
    pictures: Pictures = "as_is"
    limit: int | None = None


@dataclass(frozen=True)
class TemplateRules:
    """What comes with a template: where an answer ends, where its result stands, what it must hold."""

    stop: str | None = None
    answer_in: Literal["box", "tag"] = "box"
    requires: str | None = None


_RULES = {"r1": TemplateRules(stop="</answer>", answer_in="tag", requires="</think> <answer>")}


def template_rules(template: str) -> TemplateRules:
    return _RULES.get(template, TemplateRules())


def template_file(template: str) -> Path | None:
    """The jinja file that stands in for the model's chat template; None for `chat`, the model's own."""
    return None if template == "chat" else TEMPLATES / f"{template}.jinja"


def template_names() -> list[str]:
    return ["chat", *sorted(path.stem for path in TEMPLATES.glob("*.jinja"))]


def protocol_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_protocol(name: str) -> Protocol:
    """A shipped protocol by name, or a file's by path (its name is the file's stem)."""
    path = FOLDER / f"{name}.yaml" if name in protocol_names() else Path(name)
    if not path.is_file():
        known = ", ".join([*protocol_names(), *SUITES])
        raise ValueError(f"no protocol {name!r}: give a file, or one of {known}")
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a protocol is a list of `field: value` lines")
    known_fields = {field.name for field in fields(Protocol)} - {"name"}
    required = known_fields - {"pictures", "limit"}
    if unknown := sorted(map(str, set(content) - known_fields)):
        raise ValueError(
            f"{path}: unknown fields {', '.join(unknown)}; a protocol has {', '.join(sorted(known_fields))}"
        )
    if missing := sorted(required - set(content)):
        raise ValueError(
            f"{path}: the fields {', '.join(missing)} are missing; a protocol leaves nothing to defaults"
        )
    try:
        return checked(Protocol(name=path.stem, **content))
    except TypeError as error:  # text where a number belongs, or the other way round
        raise ValueError(f"{path}: a field's value is of another kind than it takes: {error}") from error


def checked(protocol: Protocol) -> Protocol:
    """The protocol, or a ValueError that says which field cannot be."""
    p, where = protocol, f"protocol {protocol.name}"
    if not names_a_folder(p.name):
        raise ValueError(
            f"{where!r}: the results' folder is called after its file, and none can be called {p.name!r}"
        )
    for field in ("n", "max_tokens", "max_prompt_tokens", "chunk"):
        if getattr(p, field) < 1:
            raise ValueError(f"{where}: {field} is {getattr(p, field)}, but must be at least 1")
    if p.limit is not None and p.limit < 1:
        raise ValueError(f"{where}: limit is {p.limit}, but must be at least 1")
    if p.temperature < 0 or not 0 < p.top_p <= 1:
        raise ValueError(f"{where}: temperature {p.temperature} must be 0 or more, top_p {p.top_p} in (0, 1]")
    if p.temperature == 0 and p.n > 1:
        raise ValueError(
            f"{where}: n is {p.n} at temperature 0, but greedy answers are all the same; set n=1"
        )
    if p.template not in template_names():
        raise ValueError(f"{where}: no template {p.template!r}: one of {', '.join(template_names())}")
    if p.grader not in ("strict", "paper") or p.pictures not in ("as_is", "blank", "wrong"):
        raise ValueError(
            f"{where}: grader {p.grader!r} must be strict or paper, "
            f"pictures {p.pictures!r} as_is, blank or wrong"
        )
    return p


def override(protocol: Protocol, changes: Mapping[str, Any]) -> Protocol:
    """The protocol with other values, under a name that says which: `geometry3k+n=4,temperature=1`.

    A field set to what it was is no change. Another `data` source is named by the caller (`renamed`).
    """
    real = {key: value for key, value in changes.items() if value != getattr(protocol, key)}
    changed = checked(replace(protocol, **real))
    least, most = changed.min_pixels, changed.max_pixels
    if least is not None and most is not None and least > most:
        raise ValueError(
            f"--min-pixels is {least:,}, --max-pixels is {most:,}: the first is larger than the second"
        )
    return renamed(changed, {key: value for key, value in real.items() if key != "data"})


def renamed(protocol: Protocol, changes: Mapping[str, Any]) -> Protocol:
    """`changes` appended to the name, in a form that is a file's name everywhere."""
    if not changes:
        return protocol
    said = [f"{key}={_plain(value)}" for key, value in changes.items()]
    return replace(protocol, name=protocol.name + ("," if "+" in protocol.name else "+") + ",".join(said))


def _plain(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
