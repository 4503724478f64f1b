"""What the reward files share: verdicts for a batch of inputs, and what a right answer and its form are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gmpo_vl.verify import Gold, Verdict, parse_gold, verify_batch

Inputs = list[dict[str, Any]]


def verdicts_of(
    reward_inputs: Inputs,
    adapt: Callable[[Gold], Gold] | None = None,
    profile: Any = "strict",
    answer_in: str = "box",
) -> list[Verdict]:
    """One verdict per input, in order. adapt: what the reward knows about its golds (a type, a tolerance)."""
    golds = [parse_gold(given["ground_truth"]) for given in reward_inputs]
    golds = [adapt(gold) for gold in golds] if adapt else golds
    return verify_batch(golds, [given["response"] for given in reward_inputs], profile, answer_in=answer_in)


def with_settings(gold: Gold, **settings: Any) -> Gold:
    """The gold with these settings where it brings none of its own."""
    return replace(gold, **{key: value for key, value in settings.items() if not getattr(gold, key)})


def answer_and_form(
    accuracies: list[float], forms: list[float], format_weight: float
) -> list[dict[str, float]]:
    """overall = (1 - format_weight) * accuracy + format_weight * format, with both parts beside it."""
    return [
        {"overall": (1 - format_weight) * a + format_weight * f, "format": f, "accuracy": a}
        for a, f in zip(accuracies, forms)
    ]


def answered(verdicts: list[Verdict]) -> list[float]:
    """1 where there was an answer in its place, whatever it said."""
    return [float(v.extracted is not None) for v in verdicts]


def right(verdicts: list[Verdict]) -> list[float]:
    return [float(v.correct) for v in verdicts]
