r"""Do the prompt and the reward agree on where the answer stands: in `\boxed{}` or in `<answer>`?

A model that does as its prompt asks must be able to earn the reward. So the right answers of a few rows are
written as the prompt asks and as another prompt would ask, and the reward is called with both.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gmpo_vl.data.templates import AnswerPlace, answer_place, as_asked
from gmpo_vl.rewards.inputs import inputs_of
from gmpo_vl.rewards.loading import Reward, Score
from gmpo_vl.types import Example
from gmpo_vl.verify import Gold, parse_gold
from gmpo_vl.verify.countdown import solve

ROWS = 8  # that are tried, from the whole length of a data set
MOST_NUMBERS = 5  # of a CountDown puzzle that is solved
# What asks for an answer in each place, as short as a prompt can be: without and with the reasoning in tags.
FORMS: dict[AnswerPlace, tuple[str, str]] = {
    "box": ("\\boxed", "<think>\\boxed"),
    "tag": ("<answer>", "<think><answer>"),
}
# The place in words, the templates that ask for it, the rewards that read it.
_WORDS: dict[AnswerPlace, tuple[str, str, str]] = {
    "box": ("\\boxed{}", "math or boxed", "accuracy or math"),
    "tag": ("<answer>", "r1v", "r1v"),
}


@dataclass(frozen=True)
class Disagreement:
    """certain: an answer as the prompt asks for it never earns more than a wrong one. Otherwise the prompt
    asks for no place, and a model must guess the reward's. what: that in words. change: what to write.
    """

    certain: bool
    what: str
    change: str

    @property
    def said(self) -> str:
        return f"{self.what}. {self.change}"


@dataclass(frozen=True)
class _Row:
    prompt: str
    example: Example
    right: str

    @property
    def wrong(self) -> str:
        """As long as the right answer, so that a reward of lengths sees no difference."""
        return "?" * len(self.right)


def rows_to_try(count: int) -> list[int]:
    """Which of so many rows are tried: up to ROWS of them, evenly spread."""
    tried = min(count, ROWS)
    return [count * i // tried for i in range(tried)]


def disagreement(asked: Sequence[tuple[str, Example]], reward: Reward) -> Disagreement | None:
    """What is wrong between the prompts of a few rows and the reward, or None. asked: (prompt, its row); a
    prompt is what the model gets, or `data.format_prompt` with the row's problem in it.

    It is certain where all prompts ask for one place, right and wrong answers there earn the same in every
    row, and right ones in the other place earn more in most. A reward may pay a form or a length, too: both
    answers have the same. Rows whose prompt names both places say nothing. A reward that asks an endpoint
    (ASKS_ENDPOINT in its file) is not called.

    Raises what the reward raises.
    """
    if reward.asks_endpoint:
        return None
    rows = [row for prompt, example in asked if (row := _row(prompt, example)) is not None]
    places: set[AnswerPlace | None] = {answer_place(row.prompt) for row in rows}
    if len(places) != 1:  # no rows, or rows that ask for different places
        return None
    place = places.pop()
    if place is None:
        return _unasked(rows, reward)
    if any(right != wrong for form in FORMS[place] for right, wrong in _worth(rows, form, reward)):
        return None
    other: AnswerPlace = "tag" if place == "box" else "box"
    form = _earning_form(other, rows, reward)
    if form is None:
        return None
    row, asked_for, (wanted, templates, _) = rows[0], _WORDS[place][0], _WORDS[other]
    return Disagreement(
        True,
        f"the prompt asks for the answer in {asked_for}, but the reward {reward.name} reads it in {wanted}: "
        f"{as_asked(row.prompt, row.right)!r} earns what a wrong answer earns, and "
        f"{as_asked(form, row.right)!r} more (row {row.example.id}; {len(rows)} rows were tried)",
        f"Write data.format_prompt: {templates} (and change problems that ask for {asked_for} themselves), "
        f"or {_reward_that_reads(place, reward)}",
    )


def form_that_earns(prompt: str, examples: Sequence[Example], reward: Reward) -> str:
    """The prompt. Where it names no place and an answer alone earns nothing, what asks for the place that the
    reward reads: a model may have been taught it. Raises what the reward raises."""
    rows = _answerable(prompt, examples)
    if answer_place(prompt) is not None or any(
        right > wrong for right, wrong in _worth(rows, prompt, reward)
    ):
        return prompt
    return next((form for place in FORMS if (form := _earning_form(place, rows, reward))), prompt)


def worth_as_asked(prompt: str, examples: Sequence[Example], reward: Reward) -> list[tuple[float, float]]:
    """What the reward pays for each row's right answer as the prompt asks for it, and for a wrong one.

    Rows for which no right answer can be written, or to which it gives no score, are left out.
    Raises what the reward raises.
    """
    return _worth(_answerable(prompt, examples), prompt, reward)


def parts_as_asked(prompt: str, examples: Sequence[Example], reward: Reward) -> list[str]:
    """The parts of the scores of the same answers. Raises what the reward raises."""
    scores = _scores(_answerable(prompt, examples), prompt, reward)
    return list(dict.fromkeys(part for score in scores for part in score))


def written(prompt: str, answer: str) -> str:
    """A response with this answer, as a prompt asks for it; the answer alone where it names no place."""
    return as_asked(prompt, answer) or answer


def right_answer(gold: Gold) -> str | None:
    """A text that answers the gold; None for a CountDown puzzle without a solution, or too large to solve in
    passing.

    Raises ValueError for a CountDown puzzle that is not made of numbers.
    """
    if gold.type != "countdown":
        return gold.answers[0]
    if len(gold.choices) > MOST_NUMBERS:
        return None
    solution = solve([Fraction(number) for number in gold.choices], Fraction(gold.alternatives[0]))
    return None if solution is None else str(solution)


def _answerable(prompt: str, examples: Sequence[Example]) -> list[_Row]:
    rights = [(example, _right_text(example)) for example in examples]
    return [_Row(prompt, example, right) for example, right in rights if right is not None]


def _row(prompt: str, example: Example) -> _Row | None:
    """None where the prompt names both places, or where no right answer can be written."""
    right = _right_text(example)
    both = all(forms[0] in prompt for forms in FORMS.values())
    return None if both or right is None else _Row(prompt, example, right)


def _right_text(example: Example) -> str | None:
    """None also for a gold that cannot be read: that is said elsewhere."""
    try:
        return right_answer(parse_gold(example.answer))
    except ValueError:
        return None


def _unasked(rows: Sequence[_Row], reward: Reward) -> Disagreement | None:
    if any(right != wrong for right, wrong in _worth(rows, "", reward)):
        return None
    for place, (called, templates, _) in _WORDS.items():
        if _earning_form(place, rows, reward) is not None:
            return Disagreement(
                False,
                f"the prompt does not say where the answer must stand, and the reward {reward.name} reads it "
                f"in {called} alone: a model that writes it elsewhere earns nothing",
                f"data.format_prompt: {templates} asks for it",
            )
    return None


def _earning_form(place: AnswerPlace, rows: Sequence[_Row], reward: Reward) -> str | None:
    """The form in which right answers in this place earn more than wrong ones in most rows."""
    for form in FORMS[place]:
        if sum(right > wrong for right, wrong in _worth(rows, form, reward)) > len(rows) / 2:
            return form
    return None


def _worth(rows: Sequence[_Row], form: str, reward: Reward) -> list[tuple[float, float]]:
    """(of the right answer, of the wrong one) in each row: what the reward pays in all. A row where it gives
    one of the two no score is left out."""
    scores = [score["overall"] for score in _scores(rows, form, reward)]
    pairs = zip(scores[::2], scores[1::2])
    return [(right, wrong) for right, wrong in pairs if right is not None and wrong is not None]


def _scores(rows: Sequence[_Row], form: str, reward: Reward) -> list[Score]:
    """Of the right and the wrong answer of each row, in turn."""
    inputs: list[dict[str, Any]] = []
    for row in rows:
        responses = [written(form, answer) for answer in (row.right, row.wrong)]
        inputs += inputs_of(reward.asks, row.example, [(text, len(text)) for text in responses])
    return reward.scores(inputs) if inputs else []


def _reward_that_reads(place: AnswerPlace, reward: Reward) -> str:
    if "answer_in" in inspect.signature(reward.function).parameters:
        return f"worker.reward.reward_function_kwargs: {{answer_in: {place}}}"
    called, _, rewards = _WORDS[place]
    return f"a worker.reward.reward_function that reads {called}, such as {rewards}"
