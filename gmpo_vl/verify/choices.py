"""Multiple choice. The rule for a letter and a value, in one place:

- A lone letter that names an option is that option's letter, even where an option's text is a letter.
- A letter and a text must both be right, as far as the option's text is known; where it is not, the text must not name another
  option or take the letter back.
- A text alone must be the right option's and no other's. Where it equals several options (2*6 and 3*4; 1, 2, 3 and 3, 1, 2), it
  must be nearer to the right one than to every other: written alike, or in the same order. Where only the right option's text is
  known, the order of a list and the form of a sum count.
- Several letters (AD; A and D) are a set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from gmpo_vl.verify.compare import same
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.letters import named, other_letters, plain, several
from gmpo_vl.verify.quantities import Leeway, Undecided
from gmpo_vl.verify.texts import bare, same_words, squeezed
from gmpo_vl.verify.values import CHOICE, judge_value, trees, type_of

_OR = re.compile(r" or ")
_MAX_PARTS = 4


@dataclass(frozen=True)
class Choice:
    """The right option: its letter (None if it has none), its text in each known form, and the texts of all others."""

    letter: str | None
    contents: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def names(self, letter: str) -> bool:
        """Whether a letter names one of the options, as far as they are known."""
        return not self.others or ord(letter) - ord("A") <= len(self.others)


@lru_cache(maxsize=50_000)
def choices_of(gold: Gold) -> tuple[Choice, ...]:
    """The options that are right; empty for a gold that is no choice. A letter and a text as alternatives are one option."""
    if not gold.choices and gold.type not in (None, "choice"):
        return ()
    letters = [a for a in gold.alternatives if (gold.choices or gold.type) and CHOICE.fullmatch(bare(a))]
    letters = letters or [a for a in gold.alternatives if not gold.choices and type_of(a) == "choice"]
    if gold.choices:
        return _among(gold.choices, [_letter(a) for a in letters], gold.alternatives)
    texts = tuple(a for a in gold.alternatives if a not in letters)
    if len(letters) == 1:
        return (Choice(_letter(letters[0]), texts),)
    return tuple(Choice(_letter(letter)) for letter in letters) if letters and not texts else ()


def _letter(text: str) -> str:
    return CHOICE.fullmatch(bare(text))[1]  # pyright: ignore[reportOptionalSubscript]


def _among(options: tuple[str, ...], letters: list[str], golds: tuple[str, ...]) -> tuple[Choice, ...]:
    lettered = {ord(letter) - ord("A") for letter in letters} & set(range(len(options)))
    texts = {i for i, option in enumerate(options) if option.strip() in golds}
    right = lettered & texts or lettered or texts
    if len(texts - lettered) > 1 and not lettered:  # one text, twice among the options
        right = texts
    return tuple(_option(options, i, golds) for i in sorted(right)) or (Choice(None, golds, options),)


def _option(options: tuple[str, ...], index: int, golds: tuple[str, ...]) -> Choice:
    others = options[:index] + options[index + 1 :]
    return Choice(chr(ord("A") + index), (options[index],), others)


def judge_choice(choice: Choice, leeway: Leeway, answer: str) -> str:
    """The outcome of an answer without marks around it (marks.py) against one right option."""
    found = named(answer)
    lone = found is not None and not found.rest and choice.names(found.letter)
    if choice.contents and not lone and _content(choice, leeway, answer) == "equal":
        return "equal"
    if found and choice.letter and choice.names(found.letter):
        if found.letter != choice.letter:
            outcome = "different"
        elif not found.rest:
            outcome = "equal"
        elif choice.contents:
            outcome = _content(choice, leeway, found.rest)
        elif other_letters(bare(found.rest)):
            outcome = "hedged"
        else:
            outcome = "equal" if _follows(found.rest, found.closed) else "different"
    else:
        outcome = _content(choice, leeway, answer) if choice.contents else "different"
    return "equal" if outcome != "equal" and _said_twice(choice, leeway, answer) else outcome


def _follows(rest: str, closed: bool) -> bool:
    """Whether a text whose option is unknown can be its text: after `(C)` anything but a sign; before it a value."""
    if closed:
        return rest[0].isalnum() or rest[0] in "\\({-.["
    return rest[0] in "\\$-0123456789" and bool(trees(rest))


def _said_twice(choice: Choice, leeway: Leeway, answer: str) -> bool:
    """`640 or (C)`: every part is right."""
    parts = _OR.split(plain(answer))
    return 1 < len(parts) <= _MAX_PARTS and all(
        judge_choice(choice, leeway, part) == "equal" for part in parts
    )


def _content(choice: Choice, leeway: Leeway, answer: str) -> str:
    near, outcome = max((_nearness(content, leeway, answer) for content in choice.contents), key=lambda n: n[0])
    if not near:
        return outcome
    if not choice.others:
        return "equal" if near > 1 else "different"
    rival = max(_nearness(other, leeway, answer)[0] for other in choice.others)
    return "equal" if near > rival else "different"


def _nearness(option: str, leeway: Leeway, answer: str) -> tuple[int, str]:
    """3 where the answer is written like the option, 2 where it has its order and form, 1 where it is equal, 0 otherwise; and
    the outcome of the comparison.
    """
    outcome = judge_value(option, type_of(option), leeway, answer)
    if outcome != "equal":
        return 0, outcome
    ours, theirs = trees(option)[:1], trees(answer)[:1]
    if squeezed(option) == squeezed(answer) or (ours and ours == theirs):
        return 3, outcome
    if not ours or not theirs:
        return 1 + same_words(option, answer, ordered=True), outcome
    one, two = ours[0], theirs[0]
    if one.op in ("list", "either"):
        return 1 + (two.op in ("list", "either") and _in_order(one.args, two.args, leeway)), outcome
    return 1 + (type_of(option) != "arithmetic"), outcome


def _in_order(ours: tuple, theirs: tuple, leeway: Leeway) -> bool:
    try:
        return len(ours) == len(theirs) and all(same(one, two, leeway) for one, two in zip(ours, theirs))
    except Undecided:
        return False


def judge_letters(gold: str, answer: str) -> bool:
    """Whether gold and answer name the same set of several options: `AD`, `A and D`, `D, A`."""
    ours = several(gold)
    if ours is None or (bare(gold).isalpha() and list(bare(gold)) != sorted(bare(gold))):  # BAD is a word
        return False
    return several(answer) == ours
