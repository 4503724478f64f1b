"""Is a right answer worth more than a wrong one? Golds, written as answers, go through the reward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gmpo_vl.preflight.findings import Finding
from gmpo_vl.rewards import agreement
from gmpo_vl.rewards.loading import Reward
from gmpo_vl.types import Example
from gmpo_vl.verify import Gold, parse_gold
from gmpo_vl.verify.strict import gold_type

REWARD_KEY = "worker.reward.reward_function"
# How a response may carry its answer. A reward need take one of these only.
FORMS = (
    "<think>x</think> \\boxed{{{}}}",
    "\\boxed{{{}}}",
    "<think>x</think><answer>{}</answer>",
    "<answer>{}</answer>",
    "{}",
)
WRONG = "no such answer"

Problem = tuple[str, str]  # (reason, detail)


@dataclass(frozen=True)
class GoldCheck:
    """Tries golds on a reward. None: there is none to try them on."""

    reward: Reward | None

    def look(self, answers: Sequence[str]) -> list[tuple[str, Problem | None]]:
        """(what the gold is read as, what is wrong with it) of each answer."""
        found: list[tuple[str, Problem | None]] = []
        tried: list[tuple[int, str, str]] = []  # place, answer column, a right answer
        for i, answer in enumerate(answers):
            gold = parse_gold(answer)
            right, problem = right_answer(gold)
            found.append((gold_type(gold), problem))
            if right is not None and self.reward is not None:
                tried.append((i, answer, right))
        for form in FORMS:
            worth = self._worth(form, tried)
            for (i, _, right), value in zip(tried, worth):
                if isinstance(value, str):
                    problem = ("gold_refused", value)
                elif not value:
                    told = f"the answer {right[:80]!r} is worth no more than a wrong one"
                    problem = ("gold_not_verified", told)
                else:
                    problem = None
                found[i] = (found[i][0], problem)
            tried = [row for row, value in zip(tried, worth) if value is False]
        return found

    def _worth(self, form: str, tried: Sequence[tuple[int, str, str]]) -> list[bool | str]:
        """Of each: is the right answer worth more than a wrong one? In words where the reward fails on it."""
        if self.reward is None or not tried:
            return []
        responses = [(answer, form.format(text)) for _, answer, right in tried for text in (right, WRONG)]
        inputs = [
            {"response": response, "response_length": len(response), "ground_truth": answer}
            for answer, response in responses
        ]
        try:
            scores = [score.get("accuracy", score["overall"]) for score in self.reward(inputs)]
        except Exception as error:  # a reward is anybody's code; whose row it was is found one by one
            if len(tried) == 1:
                return [f"{type(error).__name__}: {str(error)[:300]}"]
            return [value for row in tried for value in self._worth(form, [row])]
        return [scores[2 * k] > scores[2 * k + 1] for k in range(len(tried))]


def right_answer(gold: Gold) -> tuple[str | None, Problem | None]:
    """A text that answers the gold, or why there is none."""
    try:
        right = agreement.right_answer(gold)
    except ValueError as error:
        return None, ("gold_refused", f"a CountDown target and its numbers must be numbers: {error}")
    if right is None and len(gold.choices) <= agreement.MOST_NUMBERS:
        detail = f"no expression of {', '.join(gold.choices)} gives {gold.alternatives[0]}"
        return None, ("gold_not_verified", detail)
    return right, None


def check_reward(reward: Reward, examples: Sequence[Example]) -> Iterator[Finding]:
    """Right answers of some rows against wrong ones, in the form that the reward likes best."""
    golds = [(e.answer, right_answer(parse_gold(e.answer))[0]) for e in examples]
    tried = [(gold, text) for gold, right in golds if right is not None for text in (right, WRONG)]
    if not tried:
        what = "no gold of the first rows can be written as an answer: not tried"
        yield Finding("note", "reward", what, REWARD_KEY)
        return
    scores: list[tuple[float, float, str]] = []
    for form in FORMS:
        inputs = [
            {"response": form.format(text), "response_length": len(text), "ground_truth": gold}
            for gold, text in tried
        ]
        try:
            found = [score["overall"] for score in reward(inputs)]
        except Exception as error:  # a reward is anybody's code
            what = f"it fails on {form!r}: {type(error).__name__}: {error}"
            yield Finding("error", "reward", what, REWARD_KEY, "mend the reward file")
            return
        half = len(found) // 2
        scores.append((sum(found[::2]) / half, sum(found[1::2]) / half, form))
    right, wrong, form = max(scores, key=lambda s: (s[0] - s[1], s[0]))
    if right <= wrong:
        what = f"a right answer is worth {right:.2f} and a wrong one {wrong:.2f} in every form that was tried"
        change = "another reward, or another form of the golds: nothing can be learned from this one"
        yield Finding("error", "reward", what, REWARD_KEY, change)
        return
    shown = form.format("ANSWER")
    what = f"right answers are worth {right:.2f}, wrong ones {wrong:.2f}, written as {shown}"
    yield Finding("ok", "reward", what)
