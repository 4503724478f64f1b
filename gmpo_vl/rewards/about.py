"""What a person is told about the built-in rewards: `gmpo-vl rewards` and docs/rewards.md show it.

A reward's file says it once: its docstring what it pays for, `ABOUT` the rest, its function the options and
their defaults. Scores of examples are computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gmpo_vl.rewards.loading import Reward, built_in_module

BOX = "the last \\boxed{}, which the prompts math and boxed ask for (data.format_prompt)"
TAG = "the last <answer>, which the prompt r1v asks for (data.format_prompt)"
BOX_OR_TAG = "the last \\boxed{}, or under answer_in: tag the last <answer>"

# What an option, or a part of a score, means wherever it is not said otherwise.
OPTIONS = {
    "format_weight": "share of the form in overall",
    "answer_in": "where the answer stands: box for \\boxed{}, tag for <answer>",
    "profile": "strict, or paper for the published graders' decisions",
    "tolerance": "relative error that is right, where the gold brings no tolerance of its own",
    "rounded_golds": "a decimal gold stands for every value that rounds to it",
}
PARTS = {
    "overall": "what is trained on, unless algorithm.reward_weights names parts",
    "accuracy": "1 for a right answer; what validation, filtering and the best checkpoint look at",
    "format": "1 where there was an answer in its place",
    "unscored": "1 where there is no score, and so no gradient",
}


@dataclass(frozen=True)
class About:
    """when: to take it. gold: what the answer column holds. reads: where in a response the answer stands.
    examples: (gold, response) each; example_options: what they are scored with. options, parts: meanings
    that OPTIONS and PARTS do not say.
    """

    when: str
    gold: str
    reads: str
    examples: tuple[tuple[str, str], ...]
    example_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Option:
    name: str
    default: str  # as YAML has it; empty: it must be given
    meaning: str


@dataclass(frozen=True)
class Description:
    """pays: the docstring's paragraphs. examples: (gold, response, score)."""

    name: str
    pays: tuple[str, ...]
    about: About
    options: tuple[Option, ...]
    parts: Mapping[str, str]
    examples: tuple[tuple[str, str, Mapping[str, float]], ...]


def describe(name: str) -> Description:
    """Everything about a built-in reward. ValueError for a name that there is not."""
    module = built_in_module(name)
    about: About = module.ABOUT
    scores = Reward(name, module.compute_score, True, module, about.example_options)(_inputs(about))
    said = OPTIONS | dict(about.options)
    options = [
        Option(p.name, "" if p.default is p.empty else as_yaml(p.default), said[p.name])
        for p in list(inspect.signature(module.compute_score).parameters.values())[1:]
    ]
    meanings = PARTS | dict(about.parts)
    return Description(
        name=name,
        pays=tuple(" ".join(part.split()) for part in inspect.cleandoc(module.__doc__ or "").split("\n\n")),
        about=about,
        options=tuple(options),
        parts={part: meanings[part] for part in scores[0]},
        examples=tuple((gold, text, score) for (gold, text), score in zip(about.examples, scores)),
    )


def known_parts(reward: Reward) -> list[str] | None:
    """The parts of every score, in their order, with the options that the reward was loaded with. None where
    only responses tell: of a file of one's own, and of a reward that asks an endpoint.
    """
    if reward.by_path or reward.asks_endpoint:
        return None
    return list(reward(_inputs(reward.module.ABOUT))[0])


def _inputs(about: About) -> list[dict[str, Any]]:
    return [
        {"response": text, "response_length": len(text.split()), "ground_truth": gold, "problem": ""}
        for gold, text in about.examples
    ]


def as_yaml(value: Any) -> str:
    named = {None: "null", True: "true", False: "false"}
    return named[value] if value is None or isinstance(value, bool) else str(value)
