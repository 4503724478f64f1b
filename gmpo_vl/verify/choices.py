"""Multiple choice. The rule for a letter and a value, in one place:

- A lone letter that names an option is that option's letter, even where an option's text is a letter.
- A letter and a text must both be right, as far as the option's text is known; where it is not, the text must
  not name another option or take the letter back.
- A text that is spelled as an option is (but for spaces, the case of words, quotes and a final stop) is that
  option's, whatever it equals: `4000, 3000` is not `3000, 4000`.
- Any other text must equal the right option and no other. Where it equals several (2*6 and 3*4; 1, 2, 3 and
  3, 1, 2), it must be nearer to the right one than to every other: written alike, or in the same order.
  Where only the right option's text is known, the order of a list and the form of a sum count.
- Where several options are right together (AD; A and D) the answer must name all of them, and no other: by
  letters, by texts, or by both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from gmpo_vl.data.letters import letters_in, own_letter
from gmpo_vl.verify.articles import behind_article
from gmpo_vl.verify.equality import same
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.named import (
    BESIDE_LETTERS,
    Named,
    as_option,
    caseless,
    closely,
    joined,
    letters_and_texts,
    loosely,
    named,
    other_letters,
    plain,
    several,
)
from gmpo_vl.verify.quantities import EXACT, Leeway, Undecided
from gmpo_vl.verify.reading import trees
from gmpo_vl.verify.values import CHOICE, is_letter, judge_value, type_of
from gmpo_vl.verify.words import bare, same_words, set_as_text, squeezed, without_lead

_OR = re.compile(r" or ")
_JOINT = re.compile(r"\b(?:and|or)\b")
_VALUE_AND_LETTER = re.compile(r"([^,]+), ?\(?([A-Z])\)?")
_MAX_PARTS = 4
_ANSWER_IS = re.compile(  # a part of the leads: an option may be called Solution A
    r"(?:(?:so|thus|hence|therefore),? )?(?:the |my )?(?:final |correct )*(?:answer|option|choice)"
    r"(?: is:? ?|: ?)",
    re.IGNORECASE,
)
_WORD_FIRST = re.compile(r"\W*\w\w")
_LETTER_ALONE = len("(C)")
_SET = re.compile(r"[A-Z](?:, [A-Z])+")  # as `encode_answer` asks for
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


@dataclass(frozen=True)
class Several:
    """Options that are right together: their letters, and the texts of all options, where they are known."""

    letters: frozenset[str]
    options: tuple[str, ...] = ()


@lru_cache(maxsize=50_000)
def choices_of(gold: Gold) -> tuple[Choice | Several, ...]:
    """The right options; empty for a gold that is no choice. A letter and a text as alternatives are one."""
    if not gold.choices and gold.type not in (None, "choice"):
        return ()
    letters = [a for a in gold.alternatives if (gold.choices or gold.type) and CHOICE.fullmatch(bare(a))]
    letters = letters or [a for a in gold.alternatives if not gold.choices and is_letter(a)]
    if gold.choices:
        sets = [frozenset(a.split(", ")) for a in gold.alternatives if _SET.fullmatch(a)]
        if gold.type == "choice" and sets and all(max(a) <= _last_of(gold.choices) for a in sets):
            return tuple(Several(letters, gold.choices) for letters in sets)
        return _among(gold.choices, [_letter(a) for a in letters], gold.alternatives)
    texts = tuple(a for a in gold.alternatives if a not in letters)
    if gold.type == "choice" and not letters and all(sets := [letters_in(text) for text in texts]):
        return tuple(map(_named_by_letters, sets))
    if len(letters) == 1:
        return (Choice(_letter(letters[0]), texts),)
    return tuple(Choice(_letter(letter)) for letter in letters) if letters and not texts else ()


def _letter(text: str) -> str:
    return CHOICE.fullmatch(bare(text))[1]  # pyright: ignore[reportOptionalSubscript]


def _among(
    options: tuple[str, ...], letters: list[str], golds: tuple[str, ...]
) -> tuple[Choice | Several, ...]:
    lettered = {ord(letter) - ord("A") for letter in letters} & set(range(len(options)))
    texts = {i for i, option in enumerate(options) if option.strip() in golds}
    right = lettered & texts or lettered or texts
    if len(texts - lettered) > 1 and not lettered:  # one text, twice among the options
        right = texts
    right = right or {i for gold in golds if (i := _with_letter(options, gold)) is not None}
    sets = [said for gold in golds if (said := letters_in(gold)) and max(said) <= _last_of(options)]
    if sets and not right:  # as other people write them: (c), AC
        return tuple(_named_by_letters(said, options) for said in sets)
    if not right:
        equal = {i for i, option in enumerate(options) if any(_equals(option, gold) for gold in golds)}
        right = equal if len(equal) == 1 else set()
    return tuple(_option(options, i) for i in sorted(right)) or (Choice(None, golds, options),)


def _named_by_letters(letters: str, options: tuple[str, ...] = ()) -> Choice | Several:
    if len(letters) > 1:
        return Several(frozenset(letters), options)
    return _option(options, ord(letters) - ord("A")) if options else Choice(letters)


def _with_letter(options: tuple[str, ...], gold: str) -> int | None:
    """The option of a gold such as `A. 300`."""
    own = own_letter(gold)
    place = ord(own[0]) - ord("A") if own else len(options)
    return place if own and place < len(options) and closely(own[1]) == closely(options[place]) else None


def _equals(option: str, gold: str) -> bool:
    """Whether a gold is an option's value in other words: 90 of `$90^\\circ$`."""
    return judge_value(option, type_of(option), EXACT, gold) == "equal"


def _last_of(options: tuple[str, ...]) -> str:
    return chr(ord("A") + len(options) - 1)


def _option(options: tuple[str, ...], index: int) -> Choice:
    others = options[:index] + options[index + 1 :]
    return Choice(chr(ord("A") + index), (options[index],), others)


def judge_choice(choice: Choice | Several, leeway: Leeway, answer: str) -> str:
    """The outcome of an answer without marks around it (normalise.unmarked) against one right option, or
    against several that are right together.
    """
    answer = as_option(answer)
    if isinstance(choice, Several):
        return _judge_several(choice, leeway, answer)
    found = named(answer)
    if found and not choice.names(found.letter):
        found = None
    alone = found is not None and not found.rest and _is_alone(choice, answer)
    if choice.others and not alone and (outcome := _as_spelled(choice, found, answer)):
        return outcome
    if choice.contents and not alone:  # "Solution B" may be an option's text
        outcome = _content(choice, leeway, answer, lettered=found is not None)
        if outcome == "equal" and _contradicts(choice, leeway, found, answer):
            return "different"
        if outcome in ("equal", "another"):
            return outcome.replace("another", "different")
    else:
        outcome = "different"
    if found and choice.letter:
        outcome = _lettered(choice, leeway, found, answer)
    if choice.letter is None and any(judge_letters(text, answer) == "equal" for text in choice.contents):
        return "equal"
    if outcome != "equal" and _said_twice(choice, leeway, answer):
        return "equal"
    if outcome != "equal" and found and choice.others and (noun := _behind_article(found, answer)):
        return judge_choice(choice, leeway, noun)  # a cat (B)
    return outcome


def _is_alone(choice: Choice, answer: str) -> bool:
    """Whether an answer that names a letter says nothing else: `(B)`, `option B`; not `Solution B` where
    options are called that."""
    if "arrow" in answer:  # which `bare` leaves out
        return False
    if len(bare(answer)) <= _LETTER_ALONE:
        return True
    led = without_lead(set_as_text(answer) or answer)
    is_short = choice.letter is not None and len(bare(led)) <= _LETTER_ALONE
    return is_short and all(without_lead(text) == text for text in choice.contents + choice.others)


def _as_spelled(choice: Choice, found: Named | None, answer: str) -> str | None:
    """The outcome of an option's text, alone or with a letter; None for any other answer."""
    for text in dict.fromkeys((answer, _ANSWER_IS.sub("", answer, count=1), without_lead(answer))):
        ours, theirs = _spelled(choice, text)
        if ours or theirs:
            return "different" if theirs else "equal"
        for letter, rest in letters_and_texts(text):
            ours, theirs = _spelled(choice, rest) if choice.names(letter) else (False, False)
            if ours or theirs:
                return "equal" if ours and letter == choice.letter else "different"
    if found and found.rest and not is_letter(bare(found.rest)) and not _behind_article(found, answer):
        for rest in (_in_its_brackets(found.rest, answer), found.rest):
            ours, theirs = _spelled(choice, rest)
            if ours or theirs:
                return "equal" if ours and found.letter == choice.letter else "different"
    return None


def _in_its_brackets(rest: str, answer: str) -> str:
    """`(2, 3)` for the `2, 3` of `C (2, 3)`: where options are intervals, brackets tell them apart."""
    start = answer.find(rest)
    around = answer[max(start - 1, 0) : start] + answer[start + len(rest) :][:1] if start > 0 else ""
    return f"{around[0]}{rest}{around[1]}" if re.fullmatch(r"[(\[][)\]]", around) else rest


def _spelled(choice: Choice, text: str) -> tuple[bool, bool]:
    """Whether a text is spelled as the right option is, and whether as another one."""
    for spelling in (closely, loosely, caseless, joined):
        if key := spelling(text):
            ours = any(spelling(content) == key for content in choice.contents)
            theirs = any(spelling(other) == key for other in choice.others)
            if ours or theirs:
                return ours, theirs
    return False, False


def _contradicts(choice: Choice, leeway: Leeway, found: Named | None, answer: str) -> bool:
    """Whether `A. Yes` is the right text after another option's letter, not a text that begins with A."""
    if found is None or found.letter == choice.letter or not found.rest:
        return False
    rest = f"[{found.rest}]" if answer.rstrip("$ ").endswith("]") else f"({found.rest})"
    if rest[-1] in answer[-2:] and _content(choice, leeway, rest) == "equal":
        return f"{found.letter}(" not in answer  # P(0, 0) is a point
    alike = any(squeezed(content) == squeezed(answer) for content in choice.contents)
    if _behind_article(found, answer):
        return False
    return not alike and _content(choice, leeway, found.rest) == "equal"


def _behind_article(found: Named, answer: str) -> str | None:
    """`dog` of `A dog`, whose A can be an article; None for other answers."""
    if found.letter != "A" or found.closed or found.before or not found.rest:
        return None
    noun = behind_article(bare(plain(answer) if "\\" in answer else answer))
    return noun if noun and _WORD_FIRST.match(noun) else None


def _lettered(choice: Choice, leeway: Leeway, found: Named, answer: str) -> str:
    if found.letter != choice.letter:
        return "different"
    if not found.rest:
        return "equal"
    if choice.contents:
        if is_letter(found.rest) and BESIDE_LETTERS.search(answer):  # A, B or A/B where A is called B
            return "hedged"
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
    several = 1 < len(parts) <= _MAX_PARTS and "?" not in answer
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
    if not glued.isalpha() and "+" not in answer and ours == _set_of(answer.replace("/", ", ")):
        return "equal"
    if ours == several(answer):
        order = bare(answer)  # ABCD may name a figure, which ACBD does not
        is_turned = len(ours) > 2 and glued.isalpha() and order.isalpha() and order != glued
        return "different" if is_turned else "equal"
    return "hedged" if _OR.search(plain(answer)) else None


def _set_of(answer: str, last: str = "J") -> frozenset[str]:
    """The letters of `AD`, `A D`, `a, d`; none for any other text. last: as of `several`."""
    said = plain(answer).replace(")(", "), (")
    return several(answer, last) or frozenset(letters_in(said) or letters_in(said.upper()))


# --- several right options --------------------------------------------------------------------------------
_ARE_RIGHT = re.compile(
    r" (?:are|is) (?:both |all )?(?:the )?(?:correct|right|true)(?: \w+)?$", re.IGNORECASE
)
_LISTED = re.compile(r"\\?[\[{](.*)\\?[\]}]", re.DOTALL)
# Where one item of an answer ends and the next begins, the surest first.
_ITEMS = (
    re.compile(r"(?<![\s,;&])(?:[\s,;&]|\band\b)+(?=\(?[A-Z][).:])"),
    re.compile(r"\s*[;\n]\s*(?:and\b\s*)?"),
    re.compile(r"\s*,\s*(?:and\b\s*)?"),
    re.compile(r"\s*(?:,|\band\b|&)\s*(?:and\b\s*)?"),
)


def _judge_several(right: Several, leeway: Leeway, answer: str) -> str:
    """Whether an answer names these options and no other."""
    options = [_option(right.options, i) for i in range(len(right.options))]
    if any(_as_spelled(option, None, answer) == "equal" for option in options):
        return "different"  # one option, though its text may hold a comma
    listed = _LISTED.fullmatch(answer)
    inner = re.sub("[\"']", "", listed[1]) if listed else answer
    said = _ARE_RIGHT.sub("", inner)
    last = _last_of(right.options) if right.options else "Z"
    letters = _set_of(said if options else said.replace("/", ", "), last)
    if letters and (not options or max(letters) <= _last_of(right.options)):
        return "equal" if letters == right.letters else "different"
    for between in _ITEMS:
        items = [item for item in between.split(inner) if item.strip()]
        if 1 < len(items) <= len(options) and (named_ones := _named_by(items, options, leeway)):
            return "equal" if named_ones == right.letters else "different"
    return "hedged" if _OR.search(plain(answer)) else "different"


def _named_by(items: list[str], options: list[Choice], leeway: Leeway) -> frozenset[str]:
    """The letters of the options that the items name; none unless each names one, and each another one."""
    found = [[o.letter for o in options if judge_choice(o, leeway, item) == "equal"] for item in items]
    letters = frozenset(each[0] for each in found if len(each) == 1 and each[0])
    return letters if len(letters) == len(items) else frozenset()
