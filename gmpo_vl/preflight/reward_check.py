"""Is a right answer worth more than a wrong one? Golds, written as answers, go through the reward."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from gmpo_vl.data.answers import LETTERS, encoded_fields
from gmpo_vl.data.letters import own_letter, without_letters
from gmpo_vl.data.templates import answer_place
from gmpo_vl.figures import decimal
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.rewards.agreement import FORMS, MOST_NUMBERS, right_answer, worth_as_asked, written
from gmpo_vl.rewards.inputs import inputs_of
from gmpo_vl.rewards.loading import Reward, Score
from gmpo_vl.rewards.scoring import VERDICT_REWARDS
from gmpo_vl.types import Example
from gmpo_vl.verify import Gold, parse_gold
from gmpo_vl.verify.named import closely, loosely
from gmpo_vl.verify.natural_forms import PICTURE, Form, natural_forms, wrong_forms
from gmpo_vl.verify.products import same_but_for_case
from gmpo_vl.verify.quantities import EXACT
from gmpo_vl.verify.strict import gold_type
from gmpo_vl.verify.units import unit_of
from gmpo_vl.verify.values import judge_value, trees, type_of
from gmpo_vl.verify.words import TEXT_GROUP

REWARD_KEY = "worker.reward.reward_function"
# Prompts whose answers a reward may read, the last for the answer alone. A reward need take one of them only.
WAYS = (*FORMS["box"], *FORMS["tag"], "")
WRONG = "no such answer"
# A price, or a number with a unit behind it; no list, no alternatives and no product (2 m x 3 m).
_MEASURE = re.compile(
    r"(?!.*\b(?:x|by|and|or|to)\b)[-+]?(?:\\?[$€£¥]\s*[\d,]*\.?\d+|[\d,]*\.?\d+(?:\s*/\s*\d+)?\s*(?P<unit>"
    r"(?:\^?\s*\\circ|[°℃℉]|(?:(?:square|cubic)\s+)?(?P<word>[A-Za-zµμ]+))[\w\s./^°²³{}-]*))"
)
TOLD = 6  # forms that a finding names
# What a reward reads golds as that bring no type of their own.
READ_AS = {name: reward.gold_type for name, reward in VERDICT_REWARDS.items()} | {
    "anls": "text",
    "iou": "box",
}

Problem = tuple[str, str]  # (reason, detail)
Worth = float | str | None  # str: the error that the reward raises; None: it gives no score


@dataclass
class _Tried:
    """A row whose gold the reward is asked about. way: the prompt as whose answers the reward reads
    responses, None where there is none; right_worth, wrong_worth: what it pays for the two in that way.
    is_lax: it pays for the wrong one as much as for the right one, in every way.
    """

    prompt: str
    example: Example
    gold: Gold
    right: str
    problems: list[Problem]
    way: str | None = None
    right_worth: float = 0.0
    wrong_worth: float = 0.0
    is_lax: bool = False
    forms: list[Form] = field(default_factory=list)
    wrong_forms: list[Form] = field(default_factory=list)


@dataclass
class GoldCheck:
    """Tries golds on a reward, in the forms in which models answer. None: there is none to try them on, or
    not any more: it asks an endpoint that did not answer.
    """

    reward: Reward | None

    def look(self, asked: Sequence[tuple[str | None, Example]]) -> list[tuple[str, list[Problem]]]:
        """(what the gold is read as, what is wrong with it) of each row.

        asked: (prompt, its row); without a prompt the reward is not asked about the row.
        """
        found: list[tuple[str, list[Problem]]] = []
        tried: list[_Tried] = []
        for prompt, example in asked:
            gold = parse_gold(example.answer)
            right, problem = _right_or_problem(gold)
            found_in = (problem, _doubled(example.answer, example.problem), _equal_options(gold))
            problems = [one for one in found_in if one is not None]
            found.append((gold_type(gold), problems))
            if right is not None and prompt is not None and self.reward is not None:
                tried.append(_Tried(prompt, example, gold, right, problems))
        if self.reward is not None:
            try:
                _find_ways(self.reward, tried)
                _try_forms(self.reward, [row for row in tried if row.way is not None])
            except ConnectionError as error:
                tried[0].problems.append(("judge_failed", str(error)))
                self.reward = None
        return found


def _find_ways(reward: Reward, tried: Sequence[_Tried]) -> None:
    """How the reward reads each row's answer: as the prompt asks for it, else in the first way that pays."""
    left = list(tried)
    for way in (None, *WAYS):
        asked = [row for row in left if way is not None or answer_place(row.prompt)]
        ways = [row.prompt if way is None else way for row in asked]
        pairs = [(row, [written(w, text) for text in (row.right, WRONG)]) for row, w in zip(asked, ways)]
        for row, row_way, (right, wrong) in zip(asked, ways, _worth(reward, pairs)):
            if right is None or wrong is None:
                row.problems.append(_unanswered(reward, (right, wrong)))
                row.way, row.is_lax = None, False
                left.remove(row)
            elif isinstance(right, str) or isinstance(wrong, str):
                row.problems.append(("gold_refused", right if isinstance(right, str) else str(wrong)))
                left.remove(row)
            elif right > wrong:
                row.way, row.right_worth, row.wrong_worth, row.is_lax = row_way, right, wrong, False
                left.remove(row)
            elif right > 0 and not row.is_lax:
                row.way, row.right_worth, row.wrong_worth, row.is_lax = row_way, right, wrong, True
    for row in left:
        if row.is_lax:
            continue
        told = f"the answer {row.right[:80]!r} is worth no more than a wrong one"
        row.problems.append(("gold_not_verified", told))


def _try_forms(reward: Reward, tried: Sequence[_Tried]) -> None:
    """Right answers in other forms, and wrong options: all in one call of the reward."""
    asked = []
    for row in tried:
        forms = natural_forms(row.gold, READ_AS.get(reward.name))
        row.forms = [form for form in forms if form.text != row.right and not row.is_lax]
        row.wrong_forms = wrong_forms(row.gold) or _near_wrong(row.gold)
        forms = [*row.forms, *row.wrong_forms]
        asked.append((row, [written(row.way or "", form.text) for form in forms]))
    for row, worth in zip(tried, _worth(reward, asked)):
        missed = [
            form
            for form, value in zip(row.forms, worth)
            if isinstance(value, str) or (value is not None and value <= row.wrong_worth)
        ]
        passed = [
            form
            for form, value in zip(row.wrong_forms, worth[len(row.forms) :])
            if isinstance(value, float) and value >= row.right_worth
        ]
        gold = f"gold {row.gold.answers[0][:60]!r}"
        if None in worth:
            row.problems.append(_unanswered(reward, worth))
        if answer_place(row.prompt) and row.way != row.prompt and not row.is_lax:
            asks, pays = (written(way or "", row.right)[:200] for way in (row.prompt, row.way))
            told = f"{asks!r}, as the prompt asks for it, is worth no more than a wrong answer; {pays!r} is"
            row.problems.append(("prompt_and_reward", told))
        if missed:
            told = (
                f"{gold}: {len(missed)} of {len(row.forms)} usual forms of it are worth no more than a wrong"
            )
            told += f" answer: {_listed(missed)}"
            if errors := [value for value in worth[: len(row.forms)] if isinstance(value, str)]:
                told += f". On {len(errors)} the reward raises an error: {errors[0]}"
            row.problems.append(("gold_unreachable", told))
        if passed and row.gold.choices:
            row.problems.append(("wrong_choice_passes", f"{gold}: {_listed(passed)}"))
        elif passed or row.is_lax:
            wrong = passed[0].text if passed else WRONG
            right, wrong = (written(row.way or "", text)[:200] for text in (row.right, wrong))
            told = f"{right!r} is worth {row.right_worth:g}, and the wrong {wrong!r} no less"
            row.problems.append(("wrong_answer_passes", told))


def _unanswered(reward: Reward, worth: Sequence[Worth]) -> Problem:
    """A judge that did not answer within its `max_failed_share`; a reward of one's own may give no score."""
    who = "the judge did not answer" if reward.asks_endpoint else f"the reward {reward.name} gives no score"
    return "reward_unanswered", f"{who} about {list(worth).count(None)} of {len(worth)} responses"


def _near_wrong(gold: Gold) -> list[Form]:
    """For a gold that is one plain number or a few words: another answer with it inside, surely wrong."""
    text, *others = gold.answers
    if others or gold.type == "countdown":
        return []
    if re.fullmatch(r"-?(0|[1-9]\d{0,5})(\.\d+)?", text):
        return [Form("a digit more", re.sub(r"\d", r"1\g<0>", text, count=1))]
    if re.fullmatch(r"(?!no|un)[a-z]{3,}( [a-z]+){0,2}", text):
        return [Form("not in front", f"not {text}")]
    return []


def pays_anything(reward: Reward, asked: Sequence[tuple[str, Example]]) -> str | None:
    """What the reward pays for a wrong answer, where in each row that is no less than for the right one, and
    the right one earns something. asked: (prompt, its row). Raises what `_worth` raises.
    """
    golds = [(prompt, example, parse_gold(example.answer)) for prompt, example in asked]
    rights = [_right_or_problem(gold)[0] for _, _, gold in golds]
    tried = [_Tried(*row, right, []) for row, right in zip(golds, rights) if right is not None]
    _find_ways(reward, tried)
    if not tried or not all(row.is_lax for row in tried):
        return None
    row = tried[0]
    wrong = written(row.way or "", WRONG)[:200]
    return (
        f"the reward {reward.name} pays {row.wrong_worth:g} for the wrong {wrong!r} and {row.right_worth:g} "
        f"for the right answer; so it is in all {len(tried)} rows that were tried"
    )


def _worth(reward: Reward, asked: Sequence[tuple[_Tried, Sequence[str]]]) -> list[list[Worth]]:
    """What each response of each row is worth.

    Raises ConnectionError where it has one.
    """
    inputs = [
        one
        for row, responses in asked
        for one in inputs_of(reward.asks, row.example, [(text, len(text)) for text in responses])
    ]
    if not inputs:
        return [[] for _ in asked]
    try:
        scores = iter([_of_score(score) for score in reward.scores(inputs)])
    except Exception as error:  # a reward is anybody's code; which response it was is found one by one
        if isinstance(error, ConnectionError) or isinstance(error.__cause__, ConnectionError):
            raise ConnectionError(str(error)) from error
        if len(asked) > 1:
            return [worth for one in asked for worth in _worth(reward, [one])]
        row, responses = asked[0]
        if len(responses) > 1:
            return [[worth for text in responses for worth in _worth(reward, [(row, [text])])[0]]]
        return [[f"{type(error).__name__}: {str(error)[:300]}"]]
    return [[next(scores) for _ in responses] for _, responses in asked]


def _of_score(score: Score) -> Worth:
    return None if score["overall"] is None else score.get("accuracy", score["overall"])


def _listed(forms: Sequence[Form]) -> str:
    more = f"; and {len(forms) - TOLD} more" if len(forms) > TOLD else ""
    return "; ".join(f"{form.name}: {form.text[:80]!r}" for form in forms[:TOLD]) + more


def _doubled(answer: str, problem: str) -> Problem | None:
    """Whether the options still begin with their own letters, so that the problem shows `A. A. 300`."""
    options = list(map(str, (encoded_fields(answer) or {}).get("choices") or ()))
    own = [own_letter(option) for option in options]
    if without_letters(options) != options and any(letter and letter[1] for letter in own):
        return "choices_doubled", f"an option begins with its letter: {options[0][:60]!r}"
    shown = [line for line in problem.splitlines() if _shows_twice(line)]
    if len({line.strip(" (")[0] for line in shown}) > 1:
        return "choices_doubled", f"the problem shows {shown[0].strip()[:60]!r}"
    return None


def _equal_options(gold: Gold) -> Problem | None:
    """Two options that say the same, but for marks, spaces and the case of words."""
    if gold.type == "countdown":  # its numbers
        return None
    for (i, one), (j, other) in combinations(enumerate(gold.choices), 2):
        if _same_option(one, other):
            letters = [LETTERS[place] if place < len(LETTERS) else f"number {place + 1}" for place in (i, j)]
            return "choices_equal", f"options {' and '.join(letters)}: {one[:60]!r} and {other[:60]!r}"
    return None


def _same_option(one: str, other: str) -> bool:
    if PICTURE.fullmatch(one.strip()):  # <image> and <image> are two pictures
        return False
    if any(spelling(one) == spelling(other) != "" for spelling in (closely, loosely)):
        return True
    is_value = re.search(r"[\d\\]", one) and trees(one)
    if is_value and trees(one) == trees(other):  # x^2 and x^{2}
        return True
    units = [_unit_in(option) for option in (one, other)]
    if None not in units and units[0] != units[1]:  # 6 ft and 6 feet, 100 cm and 1 m; 5 m and 5.0 m differ
        return all(judge_value(a, type_of(a), EXACT, b) == "equal" for a, b in ((one, other), (other, one)))
    return not is_value and same_but_for_case(one, other)


def _unit_in(option: str) -> str | None:
    """The unit as it is written behind one number ("" for a price), also in parts (5 ft 6 in)."""
    text = re.fullmatch(r"(\$?)(.*)\1", TEXT_GROUP.sub(r" \1 ", option.strip()), re.DOTALL)
    match = _MEASURE.fullmatch(text[2].strip()) if text else None
    if match is None or (match["word"] and unit_of(match["word"], as_text=True) is None):
        return None
    return (match["unit"] or "").strip()


def _shows_twice(line: str) -> bool:
    letter = own_letter(line)
    again = own_letter(letter[1]) if letter is not None else None
    return letter is not None and again is not None and again[0] == letter[0] and again[1] != ""


def _right_or_problem(gold: Gold) -> tuple[str | None, Problem | None]:
    """A text that answers the gold, or why there is none."""
    try:
        right = right_answer(gold)
    except ValueError as error:
        return None, ("gold_refused", f"a CountDown target and its numbers must be numbers: {error}")
    if right is None and len(gold.choices) <= MOST_NUMBERS:
        detail = f"no expression of {', '.join(gold.choices)} gives {gold.alternatives[0]}"
        return None, ("gold_not_verified", detail)
    return right, None


def check_reward(reward: Reward, examples: Sequence[Example]) -> Iterator[Finding]:
    """Right answers of some rows against wrong ones, in the form that the reward likes best."""
    scores: list[tuple[float, float, str]] = []
    for form in WAYS:
        try:
            worth = worth_as_asked(form, examples, reward)
        except Exception as error:  # a reward is anybody's code
            what = f"it fails on {written(form, 'ANSWER')!r}: {type(error).__name__}: {error}"
            yield Finding("error", "reward", what, REWARD_KEY, "mend the reward file")
            return
        if not worth:
            what = "no gold of the first rows can be written as an answer that gets a score: not tried"
            yield Finding("note", "reward", what, REWARD_KEY)
            return
        right, wrong = (sum(values) / len(worth) for values in zip(*worth))
        scores.append((right, wrong, form))
    right, wrong, form = max(scores, key=lambda s: (s[0] - s[1], s[0]))
    if right <= wrong:
        said = f"a right answer is worth {decimal(right, 2)} and a wrong one {decimal(wrong, 2)}"
        what = f"{said} in every form that was tried"
        change = "another reward, or another form of the golds: nothing can be learned from this one"
        yield Finding("error", "reward", what, REWARD_KEY, change)
        return
    shown = written(form, "ANSWER")
    what = f"right answers are worth {decimal(right, 2)}, wrong ones {decimal(wrong, 2)}, written as {shown}"
    yield Finding("ok", "reward", what)
