"""Is a right answer worth something? Every gold, written as an answer, goes through the configured reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gmpo_vl.rewards.loading import Reward
from gmpo_vl.tasks.countdown.data import solve
from gmpo_vl.verify import Gold, parse_gold
from gmpo_vl.verify.strict import gold_type

# How a response may carry its answer. A reward need take one of these only.
FORMS = (
    "<think>x</think> \\boxed{{{}}}",
    "\\boxed{{{}}}",
    "<think>x</think><answer>{}</answer>",
    "<answer>{}</answer>",
    "{}",
)
WRONG = "no such answer"
MOST_NUMBERS = 5  # of a CountDown puzzle that is solved

Problem = tuple[str, str]  # (reason, detail)


@dataclass(frozen=True)
class GoldCheck:
    """A reward, and how its golds are tried. None: no reward to try them on."""

    reward: Reward | None

    def look(self, answers: Sequence[str]) -> list[tuple[str, Problem | None]]:
        """(what the gold is read as, what is wrong with it) of each answer."""
        found: list[tuple[str, Problem | None]] = []
        tried: list[tuple[int, str, str]] = []  # place, answer column, a right answer
        for i, answer in enumerate(answers):
            gold = parse_gold(answer)
            kind = gold_type(gold)
            right, problem = right_answer(gold)
            found.append((kind, problem))
            if right is not None and self.reward is not None:
                tried.append((i, answer, right))
        for form in FORMS:
            worth = self._worth(form, tried)
            for (i, _, right), value in zip(tried, worth):
                if isinstance(value, str):
                    found[i] = (found[i][0], ("gold_refused", value))
                elif not value:
                    told = f"the answer {right[:80]!r} is worth no more than a wrong one"
                    found[i] = (found[i][0], ("gold_not_verified", told))
                else:
                    found[i] = (found[i][0], None)
            tried = [row for row, value in zip(tried, worth) if value is False]
        return found

    def _worth(self, form: str, tried: Sequence[tuple[int, str, str]]) -> list[bool | str]:
        """Of each: is the right answer worth more than a wrong one? In words where the reward fails on it."""
        inputs = [_input(answer, form.format(text)) for _, answer, right in tried for text in (right, WRONG)]
        assert self.reward is not None or not inputs
        if not inputs:
            return []
        try:
            scores = _scores(self.reward, inputs)
        except Exception as error:  # a reward is anybody's code; whose row it was is found one by one
            if len(tried) == 1:
                return [f"{type(error).__name__}: {str(error)[:300]}"]
            return [value for row in tried for value in self._worth(form, [row])]
        return [scores[2 * k] > scores[2 * k + 1] for k in range(len(tried))]


def _scores(reward: Reward | None, inputs: list[dict[str, Any]]) -> list[float]:
    assert reward is not None
    return [score.get("accuracy", score["overall"]) for score in reward(inputs)]


def _input(answer: str, response: str) -> dict[str, Any]:
    """What EasyR1 hands to a reward."""
    return {"response": response, "response_length": len(response), "ground_truth": answer}


def right_answer(gold: Gold) -> tuple[str | None, Problem | None]:
    """A text that answers the gold, or why there is none."""
    if gold.type != "countdown":
        return gold.alternatives[0], None
    if len(gold.choices) > MOST_NUMBERS:
        return None, None  # too many to solve in passing
    try:
        target, numbers = Fraction(gold.alternatives[0]), [Fraction(number) for number in gold.choices]
    except ValueError as error:
        return None, ("gold_refused", f"a CountDown target and its numbers must be numbers: {error}")
    solution = solve(numbers, target)
    if solution is None:
        detail = f"no expression of {', '.join(gold.choices)} gives {gold.alternatives[0]}"
        return None, ("gold_not_verified", detail)
    return str(solution), None
