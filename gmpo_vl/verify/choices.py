"""Multiple choice. The rule for a letter and a value, in one place:

- A lone letter that names an option is that option's letter, even where an option's text is a letter.
- A letter and a text must both be right, as far as the option's text is known; where it is not, the text must
  not name another option or take the letter back.
- A text alone must be the right option's and no other's. Where it equals several options (2*6 and 3*4; 1, 2,
  3 and 3, 1, 2), it must be nearer to the right one than to every other: written alike, or in the same order.
  Where only the right option's text is known, the order of a list and the form of a sum count.
- Several letters (AD; A and D) are a set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from gmpo_vl.verify.equality import same
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.normalise import normalise, unmarked
from gmpo_vl.verify.quantities import Leeway, Undecided
from gmpo_vl.verify.values import CHOICE, is_letter, judge_value, trees, type_of
from gmpo_vl.verify.words import TEXT_GROUP, bare, same_words, squeezed, without_lead

_OR = re.compile(r" or ")
_JOINT = re.compile(r"\b(?:and|or)\b")
_VALUE_AND_LETTER = re.compile(r"([^,]+), ?\(?([A-Z])\)?")
_MAX_PARTS = 4
_LETTER_ALONE = len("(C)")
_ALIKE = 4  # see _nearness


@dataclass(frozen=True)
class Choice:
    """The right option: its letter (None for none), its text in each known form, and all other texts."""

    letter: str | None
    contents: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def names(self, letter: str) -> bool:
        """Whether a letter names one of the options, as far as they are known."""
        return not self.others or ord(letter) - ord("A") <= len(self.others)


@lru_cache(maxsize=50_000)
def choices_of(gold: Gold) -> tuple[Choice, ...]:
    """The right options; empty for a gold that is no choice. A letter and a text as alternatives are one."""
    if not gold.choices and gold.type not in (None, "choice"):
        return ()
    letters = [a for a in gold.alternatives if (gold.choices or gold.type) and CHOICE.fullmatch(bare(a))]
    letters = letters or [a for a in gold.alternatives if not gold.choices and is_letter(a)]
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
    """The outcome of an answer without marks around it (normalise.unmarked) against one right option."""
    found = named(answer)
    if found and not choice.names(found.letter):
        found = None
    alone = found is not None and not found.rest and len(bare(answer)) <= _LETTER_ALONE
    if choice.contents and not alone:  # "Solution B" may be an option's text
        outcome = _content(choice, leeway, answer, lettered=found is not None)
        if outcome == "equal" and _contradicts(choice, leeway, found, answer):
            return "different"
        if outcome in ("equal", "another"):
            return outcome.replace("another", "different")
    else:
        outcome = "different"
    if found and choice.letter:
        outcome = _lettered(choice, leeway, found)
    if choice.letter is None and any(judge_letters(text, answer) == "equal" for text in choice.contents):
        return "equal"
    return "equal" if outcome != "equal" and _said_twice(choice, leeway, answer) else outcome


def _contradicts(choice: Choice, leeway: Leeway, found: Named | None, answer: str) -> bool:
    """Whether `A. Yes` is the right text after another option's letter, not a text that begins with A."""
    if found is None or found.letter == choice.letter or not found.rest:
        return False
    alike = any(squeezed(content) == squeezed(answer) for content in choice.contents)
    return not alike and _content(choice, leeway, found.rest) == "equal"


def _lettered(choice: Choice, leeway: Leeway, found: Named) -> str:
    if found.letter != choice.letter:
        return "different"
    if not found.rest:
        return "equal"
    if choice.contents:
        return _content(choice, leeway, found.rest).replace("another", "different")
    if other_letters(bare(found.rest)):
        return "hedged"
    return "equal" if _can_be_text(found) else "different"


def _can_be_text(found: Named) -> bool:
    """Whether this can be an unknown option's text: anything but a sign after `(C)`, a value before `(C)`."""
    start = found.rest[0]
    if found.before:
        return start in "\\$-0123456789" and bool(trees(found.rest))
    return found.closed and (start.isalnum() or start in "\\({-.[")


def _said_twice(choice: Choice, leeway: Leeway, answer: str) -> bool:
    """`640 or (C)`, `640, C`: every part is right."""
    parts = _OR.split(plain(answer))
    if len(parts) == 1 and "," in parts[0] and (value := _VALUE_AND_LETTER.fullmatch(parts[0])):
        parts = [value[1], value[2]]
    several = 1 < len(parts) <= _MAX_PARTS
    return several and all(judge_choice(choice, leeway, part) == "equal" for part in parts)


def _content(choice: Choice, leeway: Leeway, answer: str, lettered: bool = False) -> str:
    """The outcome against the right option's text; `another` for an answer that is as near to another option.

    lettered: a letter stands in it, so that another option's text is looked for even where this one is not
        near.
    """
    found = [_nearness(content, leeway, answer) for content in choice.contents]
    near, outcome = max(found, key=lambda n: n[0])
    if not choice.others:
        return "another" if near == 1 else outcome
    if not near and not lettered:
        return outcome
    if near == _ALIKE:
        return "equal" if all(squeezed(other) != squeezed(answer) for other in choice.others) else "another"
    rival = max(_nearness(other, leeway, answer)[0] for other in choice.others)
    return "equal" if near > rival else "another" if rival else outcome


def _nearness(option: str, leeway: Leeway, answer: str) -> tuple[int, str]:
    """How near an answer is to an option, and the outcome of the comparison.

    4: spelled alike; 3: the same tree; 2: the same order and form; 1: equal; 0: not equal.
    """
    if squeezed(option) == squeezed(answer):
        return _ALIKE, "equal"
    kind = "text" if CHOICE.fullmatch(bare(option)) else type_of(option)  # the option G, in any case
    outcome = judge_value(option, kind, leeway, answer)
    if outcome != "equal":
        return 0, outcome
    if "or" in option + answer and {*_JOINT.findall(option)} ^ {*_JOINT.findall(answer)} == {"and", "or"}:
        return 1, outcome  # x or y is not x and y
    ours, theirs = trees(option)[:1], trees(answer)[:1]
    if ours and ours == theirs:
        return 3, outcome
    if not ours or not theirs:
        return 1 + same_words(option, answer, ordered=True), outcome
    one, two = ours[0], theirs[0]
    if one.op in ("list", "either"):
        in_order = two.op in ("list", "either") and _in_order(one.args, two.args, leeway)
        return 1 + (in_order or one.op == two.op == "either"), outcome
    # 12 ÷ 3 is no other form of 4.
    written_out = type_of(option) == "arithmetic" or "÷" in option or "\\div" in option
    return 1 + (not written_out), outcome


def _in_order(ours: tuple, theirs: tuple, leeway: Leeway) -> bool:
    try:
        return len(ours) == len(theirs) and all(same(one, two, leeway) for one, two in zip(ours, theirs))
    except Undecided:
        return False


def judge_letters(gold: str, answer: str) -> str | None:
    """`equal` where gold and answer name the same options (`AD`, `A and D`, `D, A`), `hedged` for `A or D`.

    None where the gold is no set of options, or the answer none.
    """
    ours = several(gold)
    if ours is None:
        return None
    glued = bare(gold)
    if glued.isalpha() and list(glued) != sorted(glued):  # BAD is a word
        return None
    if ours == several(answer):
        order = bare(answer)  # ABCD may name a figure, which ACBD does not
        is_turned = len(ours) > 2 and glued.isalpha() and order.isalpha() and order != glued
        return "different" if is_turned else "equal"
    return "hedged" if _OR.search(plain(answer)) else None


# --- options that an answer names by letter: `C`, `Option (C): 18 cm`, `18 cm [C]`, `A and D` -----------
class Named(NamedTuple):
    """letter: the option. rest: what else is said; before: in front of the letter; closed: with a bracket, a
    stop or words such as "that is" between the two.
    """

    letter: str
    rest: str = ""
    closed: bool = False
    before: bool = False


_STYLES = re.compile(
    r"\\(?:mathbb|mathcal|mathsf|mathfrak|mathscr|mathit|boldsymbol|bm|pmb|textsf|texttt|textup|emph|bf|sf"
    r"|it|rm"
    r"|displaystyle|boxed|fbox|left|right|large|Large|LARGE|huge|Huge)(?![a-zA-Z])|\\?\$"
)
_WRAPPED = re.compile(r"^[({ ]*\{[({ ]*([A-Za-z])[.)} ]*\}[)} ]*|(?<= )\{[({ ]*([A-Z])[.)} ]*\}[)} ]*$")
_GAPS = re.compile(r"(?:\\(?:quad|qquad)(?![a-zA-Z])|\\[,;:! ]|~|\s)+")
_ARROW = re.compile(r"\\(?:to|rightarrow|Rightarrow|implies|longrightarrow)(?![a-zA-Z])")
# Another option that is said to be wrong says nothing about the one that is named.
_OPTION = r"(?:option |choice )?\(?[A-Z]\b\)?"
_DENIED = re.compile(
    rf"(?:,? ?\(?\b(?:and )?(?:[Nn]ot|rather than|instead of) {_OPTION}\)?|{_OPTION} (?:is|was) "
    r"(?:wrong|incorrect|false|not (?:correct|right|true)|an? (?:common )?distractor))(?= ?(?:$|[.,;)]))"
)
_HEAD = re.compile(
    r"[(\[<] ?(?:(?:option|choice|letter) )?([A-Za-z])[.:]? ?[)\]>]|([A-Za-z])(?![A-Za-z0-9_^'*/?\\])",
    re.IGNORECASE,
)
_CLOSED = re.compile(r" ?[).:\]>]+(?= |$|[^\w)])|(?<=[)\]>])")
_CONFIRMED = re.compile(
    r"[ ,]*(?:[(]?(?:only|correct)[)]?|(?:is|as) (?:the )?(?:only )?(?:final |right |correct )*(?:answer"
    r"|option|choice|one|correct|right|true)"
    r"|is (?:correct|right|true))? ?[.,;:]?",
    re.IGNORECASE,
)
_JOINED = re.compile(
    r" ?(?:,? ?(?:i\.? ?e\.?|that is|namely|which is|meaning)[,:]? ?|[,;=:→] ?|->|- |\((?=.*\)$)"
    r"|\[(?=.*\]$))",
    re.IGNORECASE,
)
_REASON = re.compile(r"[ ,.;]*\b(?:because|since|as)\b(?P<why>.*)", re.IGNORECASE)
_TAIL = re.compile(
    r"(.*[^\s(\[<,;:=-])[ ,;:=]*(?:[(\[<] ?(?:(?:option|choice) )?([A-Z])[.]? ?[)\]>]|→ ?([A-Z]))[.]?",
    re.IGNORECASE,
)
_ALONE = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])|[^\x00-\x7f]")
_TWICE = re.compile(r"\(?([A-Z])\)?(?: ?(?:/|,|or|=) ?\(?\1\)?)+")


# After the right letter: another one (A only where it is no article), a list of letters, or that it is wrong.
_TAKEN_BACK = re.compile(
    r"\b[B-HJ-Z]\b|\bA\b(?!\s+\w\w)|\bor\b|\band\b|^(?:[a-j]\W+)+[a-j]$|^(?:wrong|incorrect)\b"
    r"|\b(?:is|was|be)\s+(?:wrong|incorrect|false|not\s+(?:right|correct|true|it|the))\b"
)


@lru_cache(maxsize=20_000)
def plain(text: str) -> str:
    """The answer as plain text: without styles, dollars, braces and leads."""
    text = TEXT_GROUP.sub(r" \1 ", _ARROW.sub("→", normalise(text)))
    text = _GAPS.sub(" ", _STYLES.sub("", TEXT_GROUP.sub(r" \1 ", text)))  # {\\bf \text{(A)}}
    if "{" in text:
        text = _WRAPPED.sub(lambda m: f" ({m[1] or m[2]}) ", text)
    text = _DENIED.sub(" ", unmarked(text.strip()).removesuffix("\\)"))
    return without_lead(" ".join(text.split()).strip(" ,;"))


@lru_cache(maxsize=20_000)
def named(answer: str) -> Named | None:
    """The letter that an answer begins or ends with, and the rest; None where it names no option."""
    if len(answer) == 1 and answer.isascii() and answer.isalpha():
        return Named(answer.upper())
    if not _ALONE.search(answer):
        return None
    text = plain(answer)
    if twice := _TWICE.fullmatch(text):
        return Named(twice[1])
    head = _HEAD.match(text)
    if head and head.end() == len(text.rstrip(" .,;:)")):
        return Named((head[1] or head[2]).upper())
    if head:
        letter, rest = (head[1] or head[2]).upper(), text[head.end() :]
        if closing := _CLOSED.match(text, head.end()):
            rest = text[closing.end() :]
        said = _CONFIRMED.fullmatch(rest) or _REASON.fullmatch(rest)
        if said and not (said.re is _REASON and other_letters(said["why"])):
            return Named(letter)
        if joined := _JOINED.match(rest):
            opened = joined[0].strip()
            rest = rest[joined.end() :].rstrip()
            rest = rest[:-1] if opened in ("(", "[") else rest
            return Named(letter, rest.strip(), closing is not None or opened not in "=-([,;")
        if closing or rest[:1] == " ":
            return Named(letter, rest.strip(), closing is not None)
    if tail := _TAIL.fullmatch(text):
        return Named((tail[2] or tail[3]).upper(), tail[1].strip(), before=True)
    return None


_LIST = re.compile(r"[A-Za-z]+|[^\sA-Za-z]")
_AROUND = re.compile(r"^(?:(?:both|options?|choices?|letters?) )+| (?:only|both)$", re.IGNORECASE)
_BRACKETED = re.compile(r"[(\[{] ?([A-J]) ?[)\]}]")
_NO_LETTERS = re.compile(r"[\d+*/^=<>|]")
_ALONE_OR_RUN = re.compile(r"(?<![A-Za-z\\])[A-J]")
_BETWEEN = frozenset(", ; & and".split())


@lru_cache(maxsize=20_000)
def several(text: str) -> frozenset[str] | None:
    """The letters of `AD`, `A and D`, `(A), (D)`, `A, D only`; None unless there are two or more."""
    if len(text) > 80 or _NO_LETTERS.search(text) or not _ALONE_OR_RUN.search(text):
        return None
    words = _LIST.findall(_BRACKETED.sub(r" \1 ", _AROUND.sub("", plain(text))))
    while ", and" in " ".join(words):  # B, C, and D
        words.remove("and")
    letters = words[::2] if len(words) > 1 else list("".join(words))
    if not all(word in _BETWEEN for word in words[1::2]) or not all(
        "A" <= c <= "J" and len(c) == 1 for c in letters
    ):
        return None
    return frozenset(letters) if 1 < len(letters) == len(set(letters)) and len(words) != 2 else None


def other_letters(text: str) -> bool:
    """Whether a text hedges: another letter (A only if it is no article), "or", "and", a denial."""
    return _TAKEN_BACK.search(text) is not None
