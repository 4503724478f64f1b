"""Answers as texts: without their spelling, and word by word."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from gmpo_vl.verify.normalise import normalise

TEXT_GROUP = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|hbox|mathbf)\s*\{([^{}]*)\}")
_LETTERS_ONLY = re.compile(r"(?=.*\b(?!and\b)[A-Za-z]{3,})[A-Za-z ]+[.]?")
_NAME = re.compile(r"(?:\d[\d.,]*\s+)?([A-Za-z]{2,})[.]?")  # UK, USA, 16 GB
_SPELLED = re.compile(r"(?:\d[\d.,]*\s*)?([A-Za-z ]{2,})[.]?")
_VOWELS = frozenset("aeiou")
_SHORT_WORDS = frozenset(
    "ad ah am an as at ax be by do dr eh ex go ha he hi id if in is it jr kg km lb ma me mm mr ms mt my no of oh ok on or ow ox pa pm sr "
    "st so to up us we ye am ac ad bc ce cd cv cm dc dj dvd ec eu fm gb gp hd hq hr ib iq js kb la lcd ml mb mph nj nm nsw nw ny nyc nz "
    "oz pc phd pdf ph php pr pt pvc rd rpm sw se ssw nnw sms sql tb tv tx uk un usb usa utc vcr vip vp vs vt xl xml cpr cst gmt mst pst "
    "ne sse nne ene ese wnw wsw bbc nbc cbs gps html http jpg mp nba nfl nhl mlb".split()
)
_PRODUCTS_TOO = frozenset("cd ct ma ms mr mt nm pr pt rd sr st vt".split())  # in small letters rather symbols
_SAME_WORDS = {"solutions": "solution", "exists": "exist", "roots": "root", "info": "information"}
_SAME_PHRASES = {
    "infinite": ["infinitely", "many"], "infinitely many solution": ["infinitely", "many"], "infinite solution": ["infinitely", "many"],
    "no real solution": ["no", "solution"], "no solution exist": ["no", "solution"], "there is no solution": ["no", "solution"],
    "there are no solution": ["no", "solution"], "no real root": ["no", "solution"], "does not exist": ["dne"],
}  # fmt: skip
_SEPARATED = re.compile(r"[,;&]|\band\b")
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|hbox|mathbf|operatorname)\s*(?=\{)")
_CLOCK = re.compile(r"(?<![a-z])([ap])\.?\s?m(?![a-z])\.?")  # a.m.
_SPACING = re.compile(r"\\[,;:! ]|\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\$")
_IDLE = re.compile(r"\s+(?!\w)|(?<!\w)\s+|(?<![.])[.]\s*$")
_BARE = re.compile(r"[{}$\\]|\s+")
_WORD = re.compile(r"[^\W_]+|[+*/=<>^_|!\[\]]|(?<!\w)-")


@lru_cache(maxsize=20_000)
def bare(text: str) -> str:
    """Without text commands, braces, dollars and outer punctuation."""
    if text.isascii() and text.isalnum():
        return text
    return _BARE.sub(" ", _TEXT_COMMAND.sub("", normalise(text))).strip().strip(".").strip()


@lru_cache(maxsize=20_000)
def is_wordy(text: str) -> bool:
    """Only letters and spaces, three or more letters together: rather words than a product of symbols."""
    plain = TEXT_GROUP.sub(r"\1", text).strip()
    return _LETTERS_ONLY.fullmatch(plain) is not None and (plain != text.strip() or not _is_product(plain))


def _is_product(letters: str) -> bool:
    """lwh, abc, ut: letters that are no word, so that their order does not matter. HTH and ABC are names."""
    if len(letters) > 2 and letters.isupper():
        return False
    if (
        len(letters) > 4
        or not letters.isalpha()
        or (letters.lower() in _SHORT_WORDS and letters not in _PRODUCTS_TOO)
    ):
        return False
    neighbours = all(ord(two) - ord(one) == 1 for one, two in pairwise(sorted(letters.lower())))
    return len(letters) < 3 or neighbours or _VOWELS.isdisjoint(letters.lower())


def is_turned(gold: str, answer: str) -> bool:
    """The letters of a name (UK, 16 GB) in another order, which a product of symbols would not mind."""
    name = _NAME.fullmatch(bare(gold))
    other = _SPELLED.fullmatch(bare(answer)) if name else None
    if not name or not other or ("\\" not in gold and _is_product(gold.strip())):
        return False
    theirs = other[1].replace(" ", "")
    return name[1] != theirs and sorted(name[1]) == sorted(theirs)


def _words(text: str) -> tuple[str, ...]:
    """The words and the signs of arithmetic, without case, punctuation and a leading article."""
    words: list[str] = _WORD.findall(_CLOCK.sub(r"\1m ", bare(text).lower()))
    words = [_SAME_WORDS.get(word, word) for word in words]
    words = _SAME_PHRASES.get(" ".join(words), words)
    return tuple(words[1:] if words[:1] in (["the"], ["a"], ["an"]) and len(words[-1]) > 2 else words)


def same_words(gold: str, answer: str, ordered: bool = False) -> bool:
    """The same words in the same order; letters that name options (A, C and F) in any order, unless `ordered`."""
    if (
        len(answer) < 5
        and answer.isalpha()
        and answer not in (gold, answer.lower(), answer.upper(), answer.title())
    ):
        return False  # BIl is no BIL
    ours, theirs = _words(gold), _words(answer)
    if (
        not ordered
        and ours
        and _SEPARATED.search(gold)
        and all(len(word) == 1 or word == "and" for word in ours)
    ):
        return sorted(w for w in ours if w != "and") == sorted(w for w in theirs if w != "and")
    return bool(ours) and ours == theirs


@lru_cache(maxsize=20_000)
def squeezed(text: str) -> str:
    """Without spacing commands, and white space only where it parts two digits or letters."""
    if text.isascii() and text.isalnum():
        return text
    return _IDLE.sub("", _SPACING.sub(" ", normalise(text)))
