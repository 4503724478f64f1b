"""A protocol: everything that decides what an evaluation's number means, in a file (protocols/NAME.yaml).

The files are frozen, because a number is quoted with a protocol's name. A changed field gives the result
another name (`geometry3k+n=4`). Another protocol is another file, whose path is as good as a name, or data
alone, which gives the result its name.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gmpo_vl.data.rows import OnBadRow
from gmpo_vl.data.sources import SPLIT_OF
from gmpo_vl.data.templates import AnswerPlace
from gmpo_vl.evaluation.aggregates import AGGREGATES
from gmpo_vl.evaluation.environments import GAME, whole_section
from gmpo_vl.rewards.loading import built_in_rewards
from gmpo_vl.storage.files import names_a_folder
from gmpo_vl.storage.names import nearest_or_all
from gmpo_vl.storage.yaml_text import read_yaml, wrong_kind
from gmpo_vl.verify import Profile

FOLDER = Path(__file__).parent / "protocols"
TEMPLATES = Path(__file__).parent / "templates"

# Protocols under one name. `text`: the five sets whose unweighted mean is the paper's average, in its order.
SUITES = {
    "text": ("aime24", "amc", "math500", "minerva", "olympiad_bench"),
    "alfworld": ("alfworld_seen", "alfworld_unseen"),
    "geometry": ("geometry3k", "geometry3k_choices", "geoqa"),
    "vision_math": ("mathvista", "mathverse", "mathvision", "wemath", "dynamath", "logicvista"),
}
SUITES["all_vision"] = (*SUITES["geometry"], *SUITES["vision_math"], "hallusionbench", "chartqa", "mmmu")

PROFILES: tuple[Profile, ...] = ("strict", "paper")
Pictures = Literal["as_is", "blank", "wrong"]

# What holds for data of one's own where its file, or the command line, says nothing else.
_OWN: dict[str, Any] = {
    "about": "Data of one's own.",
    "questions": None,
    "data_sha256": None,
    "template": "chat",
    "format_prompt": "boxed",
    "min_pixels": 262144,
    "max_pixels": 4194304,
    "max_prompt_tokens": 2048,
    "max_tokens": 2048,
    "max_model_len": None,
    "n": 16,
    "temperature": 0.5,
    "top_p": 1.0,
    "top_k": -1,
    "seed": 1,
    "grader": "strict",
    "benchmark": "",
    "chunk": 16,
}
# What is otherwise where games are played. A protocol of games takes no other values.
_OF_GAMES: dict[str, Any] = {
    "format_prompt": None,
    "grader": GAME,
    "grader_options": {},
    "benchmark": "",
    "aggregate": None,
}
MOST_OPTIONS = 40  # characters of a reward's options in a result's name
# The name of a split says nothing without its folder or data set. In data.sources a testmini is no test.
_SPLITS = {*SPLIT_OF, "testmini"}


@dataclass(frozen=True)
class Protocol:
    """What a protocol fixes. Lengths are tokens, areas pixels.

    name: of the result. questions, data_sha256: what the data must be for its numbers to be the protocol's
        (`prepare.data_hash`); None where the published set could not be had, so that it could not be pinned.
    template: how a problem becomes a prompt: `chat` is the model's own chat template, others are
    templates/NAME.jinja. format_prompt: a jinja template of gmpo_vl.data around the problem, before the chat
    template; None: the problem alone. max_model_len: prompt and answer together; an answer is cut there.
    None: only `max_tokens` cuts. grader: whose verdicts count: a profile of gmpo_vl.verify, `strict` or
    `paper`, or a reward, by its name or as FILE.py:FUNCTION. grader_options: the reward's. benchmark: the
    name that the published graders know the benchmark by; empty for data that they do not know, of which the
    `paper` profile is then not asked. chunk: questions that run together, are written together and are
    redone together. vLLM has larger ones of its own. pictures: `blank` and `wrong` are controls: the mean
    grey, or another question's picture, in place of the right one. limit: the first questions only.
    on_bad_row: `skip` leaves out rows that cannot be used. seed: each sample's seed comes from it, the
    question's id and the sample's number. environment: what is played, with the keys of a run's section
    (environments.py): a row is then a game, n its episodes, `max_tokens` of one turn's answer.
    system_prompt: a system turn before each question; empty for none. version: counts up when a shipped file
    changes; None: from before there were versions. aggregate: what is counted beside the mean over questions
    (aggregates.py). official: what the benchmark's own score does that this one does not, told with each
    result. judge: `model` where a language model extracts or compares answers in that score.
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
    grader: str
    benchmark: str
    chunk: int
    pictures: Pictures = "as_is"
    limit: int | None = None
    on_bad_row: OnBadRow = "error"
    grader_options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    system_prompt: str = ""
    version: int | None = None
    aggregate: str | None = None
    official: str = ""
    judge: Literal["none", "model"] = "none"

    def stated(self) -> dict[str, Any]:
        """Its fields, as plan.json and results.json have them: of the later ones those that are set."""
        later = {"on_bad_row": "error", "grader_options": {}, "environment": {}}
        later |= {"system_prompt": "", "version": None, "aggregate": None, "official": "", "judge": "none"}
        return {key: value for key, value in asdict(self).items() if value != later.get(key, ...)}


@dataclass(frozen=True)
class TemplateRules:
    """What comes with a template: where an answer ends, where its result stands (None: where the prompt asks
    for it), what it must hold."""

    stop: str | None = None
    answer_in: AnswerPlace | None = None
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
    """A shipped protocol by name, which states every field, or a file's by path (its name is the file's
    stem), in which `data` alone must stand. Raises ValueError for one that cannot be."""
    shipped = name in protocol_names()
    path = FOLDER / f"{name}.yaml" if shipped else Path(name)
    if not path.is_file():
        beside = [str(file) for file in path.parent.glob("*.yaml")]
        known = beside if path.suffix and beside else [*protocol_names(), *SUITES]
        raise ValueError(f"no protocol {name!r}, and no such file{nearest_or_all(name, known)}")
    if not shipped and _is_shipped(path.stem):
        raise ValueError(f"{path}: {path.stem} is a protocol of the package: give the file another name")
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a protocol is a list of `field: value` lines")
    if said := wrong_kind(path, content, "an evaluation's protocol"):
        raise ValueError(said)
    known_fields = [field.name for field in fields(Protocol) if field.name != "name"]
    if unknown := [str(key) for key in content if key not in known_fields]:
        raise ValueError(
            f"{path}: unknown fields {', '.join(unknown)}{nearest_or_all(unknown[0], known_fields)}"
        )
    needed = {*_OWN, "data"} if shipped else {"data"}
    if missing := sorted(needed - set(content)):
        raise ValueError(f"{path}: the field{'s'[: len(missing) > 1]} {', '.join(missing)} must stand there")
    usual = _OWN | _OF_GAMES if content.get("environment") else _OWN
    return checked(Protocol(**{"name": path.stem, **usual, **content}))


def protocol_of_data(source: str) -> Protocol:
    """How data is asked where no protocol is named. Its result is called after it."""
    name = name_of_data(source)
    return checked(Protocol(name=f"{name}-data" if _is_shipped(name) else name, data=source, **_OWN))


def name_of_data(source: str) -> str:
    """`squares-validation` for data/squares/validation.parquet, `mine` for mine.parquet, `name-test` for
    OWNER/name@test."""
    place, split = source, ""
    if "@" in source and not Path(source).exists():
        place, _, split = source.rpartition("@")
    path = Path(os.path.abspath(place))
    words = [path.stem if path.is_file() else path.name, split]
    if re.split("[-_.]", words[0].lower())[0] in _SPLITS:
        words = [path.parent.name, *words]
    return re.sub(r"[^\w.-]+", "-", "-".join(filter(None, words)))[:80].strip("-.") or "data"


def _is_shipped(name: str) -> bool:
    return name in (*protocol_names(), *SUITES)


_AT_LEAST_1 = (
    *("n", "max_tokens", "max_prompt_tokens", "max_model_len", "chunk", "limit"),
    *("min_pixels", "max_pixels", "version"),
)


def checked(protocol: Protocol) -> Protocol:
    """The protocol, or a ValueError that says which field cannot be."""
    p, where = protocol, f"protocol {protocol.name}"
    if not names_a_folder(p.name):
        raise ValueError(
            f"{where!r}: the results' folder is called after its file, and none can be called {p.name!r}"
        )
    _check_kinds(p, where)
    for name in _AT_LEAST_1:
        if getattr(p, name) is not None and getattr(p, name) < 1:
            raise ValueError(f"{where}: {name} is {getattr(p, name)}, but must be at least 1")
    if not 0 <= p.temperature < math.inf or not 0 < p.top_p <= 1:
        raise ValueError(f"{where}: temperature {p.temperature} must be 0 or more, top_p {p.top_p} in (0, 1]")
    if p.temperature == 0 and p.n > 1:
        raise ValueError(
            f"{where}: n is {p.n} at temperature 0, but greedy answers are all the same; set n=1"
        )
    if p.template not in template_names():
        raise ValueError(f"{where}: no template {p.template!r}: one of {', '.join(template_names())}")
    if p.aggregate is not None and p.aggregate not in AGGREGATES:
        raise ValueError(f"{where}: no aggregate {p.aggregate!r}{nearest_or_all(p.aggregate, [*AGGREGATES])}")
    if p.environment:
        _check_games(p, where)
        return replace(p, environment=whole_section(p.environment, where))
    if p.grader in PROFILES and p.grader_options:
        raise ValueError(f"{where}: grader_options are a reward's, and the grader {p.grader} takes none")
    rewards = built_in_rewards()
    if p.grader not in (*PROFILES, *rewards) and not p.grader.partition(":")[0].endswith(".py"):
        raise ValueError(
            f"{where}: the grader {p.grader!r} is neither strict nor paper, nor a reward, nor a file such as "
            f"my_reward.py:compute_score{nearest_or_all(p.grader, [*PROFILES, *rewards])}"
        )
    return p


def _check_games(protocol: Protocol, where: str) -> None:
    """Raises ValueError for a field that has no meaning where games are played."""
    for name, only in _OF_GAMES.items():
        if getattr(protocol, name) != only:
            why = "the environment's template says what a turn shows"
            why = why if name == "format_prompt" else "a game says itself whether it was won"
            why = "questions are counted there, not games" if name == "aggregate" else why
            raise ValueError(f"{where}: {name} is {getattr(protocol, name)!r}, but {why}: leave it out")


def _check_kinds(protocol: Protocol, where: str) -> None:
    """Raises ValueError for a value of another kind than its field's."""
    for name, hint in get_type_hints(Protocol).items():
        value, allowed = getattr(protocol, name), get_args(hint)
        if get_origin(hint) is Literal:
            if value not in allowed:
                raise ValueError(f"{where}: {name} is {value!r}, but must be {' or '.join(allowed)}")
            continue
        kinds = allowed if allowed and get_origin(hint) is not dict else (get_origin(hint) or hint,)
        kinds = (*kinds, int) if float in kinds else kinds
        if isinstance(value, bool) or not isinstance(value, kinds):
            words = " or ".join(_KINDS[kind] for kind in kinds)
            raise ValueError(f"{where}: {name} is {value!r}, but must be {words}")


_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict: "`name: value` lines",
    type(None): "null",
}


def override(protocol: Protocol, changes: Mapping[str, Any]) -> Protocol:
    """The protocol with other values, under a name that says which: `geometry3k+n=4,temperature=1`.

    A field set to what it was is no change, and another grader does not take the former one's options. Of the
    same grader they are set one by one; {} takes them all away.
    Another `data` source is named by the caller (`renamed`).
    """
    options = changes.get("grader_options")
    if options and changes.get("grader") in (None, protocol.grader):
        changes = {**changes, "grader_options": {**protocol.grader_options, **options}}
    real = {key: value for key, value in changes.items() if value != getattr(protocol, key)}
    former = {"grader_options": {}} if "grader" in real else {}
    changed = checked(replace(protocol, **(former | real)))
    least, most = changed.min_pixels, changed.max_pixels
    if least is not None and most is not None and least > most:
        least_of, most_of = (
            f"--{key.replace('_', '-')}" if key in real else f"the protocol's {key}"
            for key in ("min_pixels", "max_pixels")
        )
        raise ValueError(
            f"{least_of} is {least:,}, {most_of} is {most:,}: the first is larger than the second"
        )
    return renamed(changed, {key: value for key, value in real.items() if key != "data"})


def renamed(protocol: Protocol, changes: Mapping[str, Any]) -> Protocol:
    """`changes` appended to the name, in a form that is a file's name everywhere."""
    if not changes:
        return protocol
    said = [f"{key}={_plain(key, value)}" for key, value in changes.items()]
    return replace(protocol, name=protocol.name + ("," if "+" in protocol.name else "+") + ",".join(said))


def _plain(key: str, value: Any) -> str:
    if key == "grader":  # a reward's file, wherever it lies
        value = PurePath(value).name
    text = f"{value:g}" if isinstance(value, float) else str(value)
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    return plain.strip("-")[:MOST_OPTIONS] if isinstance(value, dict) else plain
