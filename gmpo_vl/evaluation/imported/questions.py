"""Whether a harness's row and a row of --data are the same question: by texts, options and right answers.

Texts are compared as words and signs, without case, marks and the tags of pictures.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from gmpo_vl.data.answers import LETTERS, encode_answer
from gmpo_vl.data.letters import letters_in
from gmpo_vl.evaluation.imported.rows import options_shown
from gmpo_vl.evaluation.official import golds_agree
from gmpo_vl.verify import parse_gold
from gmpo_vl.verify.gold import Gold

_PICTURE = re.compile(r"<\|?(?:image|img|video)[\s_]?\d*\|?>|\[(?:image|img)\s?\d*\]", re.IGNORECASE)
_DASHES = str.maketrans("‐‑‒–—−", "------")
# A number, a word (of Chinese a sign), or a sign that is no punctuation.
_WORD = re.compile(
    r"\d+(?:[.,]\d+)*|[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+"
    r"|[^\w\s.,;:!?()\[\]{}\"'`$*~|\\“”‘’。、《》〈〉…]"
)
_OPTION = re.compile(r"\s*(?:[(\[]?[A-Z][)\].:、](?:\s|\S)|[A-Z]\s*$)")  # a line `A. x`, (A) x, or A alone
_CHOICES = re.compile(r"\s*(?:choices|options)\s*:?\s*$", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.?!])\s+|(?<=[。？！])|\n")
_LABEL = re.compile(r"\s*(?:question|问题)\s*[:：]", re.IGNORECASE)
_FEWEST_WORDS = 2  # of a text that says anything
_FEWEST_COMMON, _SHARE_COMMON = 3, 0.01  # rows with a sentence that tells none of them from the others


def words(text: str) -> str:
    """The words and signs of a text, a space around each: so one text can be looked for in another."""
    plain = _PICTURE.sub(" ", text) if "<" in text or "[" in text else text
    if not plain.isascii():
        plain = unicodedata.normalize("NFKC", plain).translate(_DASHES)
    return f" {' '.join(_WORD.findall(plain.casefold()))} "


def _sentences(text: str) -> tuple[str, ...]:
    """Its sentences as words, without the lines of options."""
    lines = (line for line in text.split("\n") if not _OPTION.match(line) and not _CHOICES.match(line))
    found = (words(_LABEL.sub("", sentence)) for line in lines for sentence in _SENTENCE.split(line))
    return tuple(sentence for sentence in found if sentence.strip())


class Asked:
    """The questions of a data set. What many of them say (`Answer yes or no.`) tells none from another."""

    def __init__(self, problems: Iterable[str]):
        self._rows, self._count = 0, Counter[str]()
        self._sentences: dict[str, tuple[str, ...]] = {}
        for self._rows, problem in enumerate(problems, 1):
            self._sentences[problem] = _sentences(problem)
            self._count.update(set(self._sentences[problem]))

    def is_same(self, problem: str, asked: str) -> bool | None:
        """Whether what a harness asked is the problem, one of these: either has all that the other says, of
        the problem without what many say. None where one of them says nothing, or a word."""
        own, everything = self._sentences[problem], words(asked)
        if not own or min(len("".join(own).split()), len(everything.split())) < _FEWEST_WORDS:
            return None
        common = max(_FEWEST_COMMON, _SHARE_COMMON * self._rows)
        core = [sentence for sentence in own if self._count[sentence] < common]
        core = core or [min(own, key=self._count.__getitem__)]
        if all(part in everything for part in core):
            return True
        theirs, whole = _sentences(asked), words(problem)
        return all(part in whole for part in theirs) if theirs else None


def joined_gold(stated: str, asked: str, own: str, problem: str) -> str | None:
    """The gold of a row of --data for a harness's answers to it; None where the right answers differ.

    stated, asked: the harness's gold (empty: none is stated) and prompt. own, problem: the row's. Options are
    compared by their texts. Where the harness has them in another order the gold does, too: a response names
    the letters that its prompt showed.
    """
    try:
        ours = parse_gold(own)
        theirs = parse_gold(stated) if stated else None
    except ValueError:
        return own if stated == own else None
    options = _options(ours, problem)
    shown = [] if theirs is None else _options(theirs, asked)
    if theirs is None or not (shown and options):
        agree = theirs is None or golds_agree(stated, own)
        return own if agree and not _in_another_order(options, asked) else None
    same_letters = golds_agree(encode_answer(theirs.alternatives), encode_answer(ours.alternatives))
    if not _named(theirs, shown) & _named(ours, options):
        return own if same_letters and (_are_drawn(shown) or _are_drawn(options)) else None
    if shown == options or (same_letters and Counter(shown) != Counter(options)):
        return own
    texts = theirs.choices or options_shown(asked)
    return encode_answer(theirs.alternatives, type="choice", tolerance=ours.tolerance, choices=texts)


def _options(gold: Gold, text: str) -> list[str]:
    """The options as words: the gold's, else those that the text shows, where the gold is of letters."""
    if gold.type not in (None, "choice"):
        return []
    shown = gold.choices or (options_shown(text) if all(map(letters_in, gold.alternatives)) else ())
    return [words(option) for option in shown]


def _named(gold: Gold, options: Sequence[str]) -> set[frozenset[str]]:
    """The options that each alternative names together, as words."""
    found: set[frozenset[str]] = set()
    for text in gold.alternatives:
        places = [LETTERS.index(letter) for letter in letters_in(text)]
        are_there = places and max(places) < len(options)
        found.add(frozenset([options[place] for place in places] if are_there else [words(text)]))
    return found


def _are_drawn(options: Sequence[str]) -> bool:
    """Whether one of them is a picture: nothing is left of its text, or its own letter."""
    return any(text.strip() in ("", letter.lower()) for letter, text in zip(LETTERS, options))


def _in_another_order(options: Sequence[str], asked: str) -> bool:
    """Whether the prompt shows every option behind a letter, and one behind another letter than its own."""
    text, letters = words(asked), LETTERS.lower()[: len(options)]
    behind = [{letter for letter in letters if f" {letter}{option}" in text} for option in options]
    return all(behind) and any(own not in found for own, found in zip(letters, behind))
