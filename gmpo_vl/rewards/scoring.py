"""Rewards that are a verdict and a form, as one table; and what the other reward files share.

A reward's file says `compute_score, verdicts = functions_of("NAME")`, so that EasyR1 can load it by its path.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gmpo_vl.rewards.formats import thinks_then_answers, thinks_then_boxes
from gmpo_vl.rewards.values import check_values
from gmpo_vl.verify import Gold, Verdict, parse_gold, verify_batch

Inputs = list[dict[str, Any]]
Scores = list[dict[str, float]]


@dataclass(frozen=True)
class VerdictReward:
    """How answers are judged and what their form is.

    options: what a configuration can set (`worker.reward.reward_function_kwargs`), with defaults; about.py
        says what they mean.
    gold_type: of golds that bring no type of their own.
    answer_in: where the answer stands, unless it is an option.
    form: of a response; None: there was an answer in its place.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    gold_type: str | None = None
    answer_in: str = "box"
    form: Callable[[str], bool] | None = None


_WEIGHT = {"format_weight": 0.0}
_PLACE = {"answer_in": "box"}
VERDICT_REWARDS = {
    "accuracy": VerdictReward(),
    "choice": VerdictReward({**_WEIGHT, **_PLACE}, gold_type="choice"),
    "geometry3k": VerdictReward({"format_weight": 0.1, "rounded_golds": True}, form=thinks_then_boxes),
    "math": VerdictReward({**_WEIGHT, "profile": "strict"}),
    "numeric": VerdictReward({"tolerance": 0.05, **_WEIGHT, **_PLACE}),
    "r1v": VerdictReward({"format_weight": 0.5}, answer_in="tag", form=thinks_then_answers),
    "text": VerdictReward({**_WEIGHT, **_PLACE}, gold_type="text"),
}


def functions_of(name: str) -> tuple[Callable[..., Scores], Callable[..., list[Verdict]]]:
    """`compute_score` and `verdicts` of a reward in the table, in EasyR1's form.

    They take its options alone.
    """
    reward, signature = VERDICT_REWARDS[name], _signature(VERDICT_REWARDS[name])

    def verdicts(*given: Any, **options: Any) -> list[Verdict]:
        """What the verifier says about each input; asked twice about one batch, it answers from its cache."""
        return _verdicts(reward, _bound(signature, given, options))

    def compute_score(*given: Any, **options: Any) -> Scores:
        """`overall`, `format` and `accuracy` per input, in order; without a format_weight no `format`.

        ValueError for an option's value that cannot be.
        """
        arguments = _bound(signature, given, options)
        check_values(name, **{key: arguments[key] for key in reward.options})
        said = _verdicts(reward, arguments)
        accuracies = [float(verdict.correct) for verdict in said]
        if "format_weight" not in arguments:
            return [{"overall": a, "accuracy": a} for a in accuracies]
        weight, answers = arguments["format_weight"], arguments["reward_inputs"]
        forms = [
            float(reward.form(one["response"]) if reward.form else verdict.extracted is not None)
            for one, verdict in zip(answers, said)
        ]
        return [
            {"overall": (1 - weight) * a + weight * f, "format": f, "accuracy": a}
            for a, f in zip(accuracies, forms)
        ]

    for function in (compute_score, verdicts):
        function.__signature__ = signature  # type: ignore[attr-defined]
    return compute_score, verdicts


def _bound(signature: inspect.Signature, given: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, defaults included. Raises TypeError for an option that the reward has not."""
    bound = signature.bind(*given, **options)
    bound.apply_defaults()
    return bound.arguments


def _verdicts(reward: VerdictReward, arguments: Mapping[str, Any]) -> list[Verdict]:
    answer_in, profile = arguments.get("answer_in", reward.answer_in), arguments.get("profile", "strict")
    return verdicts_of(
        arguments["reward_inputs"], lambda gold: _adapted(gold, reward, arguments), profile, answer_in
    )


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


def _adapted(gold: Gold, reward: VerdictReward, options: Mapping[str, Any]) -> Gold:
    if "tolerance" in options:
        gold = with_settings(gold, tolerance=options["tolerance"])
    rounded = options.get("rounded_golds", False) and all(map(_is_decimal, gold.alternatives))
    return with_settings(gold, type="rounded" if rounded else reward.gold_type)


def _is_decimal(text: str) -> bool:
    return "." in text and text.lstrip("-").replace(".", "", 1).strip().isdigit()


def _signature(reward: VerdictReward) -> inspect.Signature:
    """What the loader of rewards holds a configuration's options against."""
    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    options = [inspect.Parameter(key, either, default=value) for key, value in reward.options.items()]
    return inspect.Signature([inspect.Parameter("reward_inputs", either), *options])
