"""Letters that are words or a product of symbols: `tv` is `TV` and `east` no `seat`, but `ab` is `ba` and no
`AB`. Golds of type `text` are words (values.py) and are not asked about here.

The rule of case: words mean the same in any, the letters of a product do not (`MGH` is no `mgh`). Letters
can be a product where they are at most four and no vowel is among them, where they are neighbours (`abc`),
or where they rise from a to h, as the names of sides do (`abd`). Abbreviations and words without a vowel
that everybody knows (`bmw`, `sky`) are words: a list, since their letters do not tell. A name with a vowel
(`PAB`, `cat`) is a word.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from gmpo_vl.verify.words import TEXT_GROUP, bare, set_as_text

_LETTERS_ONLY = re.compile(r"(?=.*\b(?!and\b)[A-Za-z]{3,})[A-Za-z ]+[.]?")
_NAME = re.compile(r"(?:\d[\d.,]*\s+)?([A-Za-z]{2,})[.]?")  # UK, USA, 16 GB
_SPELLED = re.compile(r"(?:\d[\d.,]*\s*)?([A-Za-z ]{2,})[.]?")
_VOWELS = frozenset("aeiou")
_SHORT_WORDS = frozenset(
    """ad ah am an as at ax be by do dr eh ex go ha he hi id if in is it jr kg km lb ma me mm mr ms mt my no
    of oh ok on or ow ox pa pm sr st so to up us we ye am ac ad bc ce cd cv cm dc dj dvd ec eu fm gb gp hd
    hq hr ib iq js kb la lcd ml mb mph nj nm nsw nw ny nyc nz oz pc phd pdf ph php pr pt pvc rd rpm sw se
    ssw nnw sms sql tb tv tx uk un usb usa utc vcr vip vp vs vt xl xml cpr cst gmt mst pst ne sse nne ene
    ese wnw wsw bbc nbc cbs gps html http jpg mp nba nfl nhl mlb
    bbq bmw cctv cnn dhl dslr gmc hbo hdmi hdtv kfc mgm mri msn mtv ncaa nypd pbs rgb ssd tcp vhs vpn wwe wwf
    cry dry fly fry gym ply pry shy sky sly spy sty thy try why wry hymn lynx myth ace beg""".split()
)
# Words of two letters that mean the same in any case.
CASELESS = frozenset(
    """am an as at be by do go he hi if in is it me my no of oh ok on or ox so to up us we
    ct eu tv uk un""".split()
)
_PRODUCTS_TOO = frozenset("cd ct ma ms mr mt nm pr pt rd sr st vt".split())  # in small letters rather symbols
_COMPOUND = re.compile(r"[A-Za-z\d]+(?:[&'-][A-Za-z\d]+)*")
_LETTERS = re.compile("[A-Za-z]+")
_HAS_VOWEL = re.compile("[aeiou]", re.IGNORECASE)


@lru_cache(maxsize=20_000)
def is_wordy(text: str) -> bool:
    """Only letters and spaces, three or more letters together: rather words than a product of symbols."""
    plain = TEXT_GROUP.sub(r"\1", text).strip()
    return _LETTERS_ONLY.fullmatch(plain) is not None and (
        plain != text.strip() or not is_product(plain.removesuffix("."))
    )


def are_products(text: str) -> bool:
    """`pqr s`, `mgh and k`: every word may be a product of symbols."""
    return all(is_product(word) for word in text.removesuffix(".").split() if word != "and")


def is_product(letters: str) -> bool:
    """lwh, abc, ut: letters that are no word, so that their order does not matter. HTH and ABC are names."""
    if len(letters) > 2 and letters.isupper():
        return False
    low = letters.lower()
    if len(letters) > 4 or not letters.isalpha() or (low in _SHORT_WORDS and letters not in _PRODUCTS_TOO):
        return False
    return len(letters) < 3 or _name_sides(low) or _VOWELS.isdisjoint(low)


def same_but_for_case(gold: str, answer: str) -> bool:
    """`TV` for `tv`, `X-ray` for `x-ray`: words in small letters, in capitals or as in a title.

    Letters that may be a product keep their case.
    """
    (ours, low), (theirs, other) = _split(gold), _split(answer)
    if ours == theirs or low != other:
        return False
    return all(one == two or _are_words(one, two) for one, two in zip(ours, theirs))


@lru_cache(maxsize=20_000)
def _split(text: str) -> tuple[list[str], list[str]]:
    """The words of a text, and in small letters. Kept: a vote compares each answer with all others."""
    words = (set_as_text(text) or text).removesuffix(".").split()
    return words, [word.lower() for word in words]


def _are_words(one: str, other: str) -> bool:
    """Whether a word in two spellings of its case is a word, and both are usual."""
    usual = (one.lower(), one.upper(), one.capitalize(), one.title())
    if not _COMPOUND.fullmatch(one) or one not in usual or other not in usual:
        return False
    parts = _LETTERS.findall(one)
    return any(map(_is_word, parts)) or ("-" in one and all(map(_HAS_VOWEL.search, parts)))


def _is_word(letters: str) -> bool:
    """Whether letters are a word even where a product of symbols would do."""
    if len(letters) < 3:
        return letters.lower() in CASELESS and letters not in _PRODUCTS_TOO
    return not is_product(letters.lower())


def _name_sides(low: str) -> bool:
    """abc, zyx: neighbours; abd, bdfh: rising letters from a to h."""
    rising = all(one < two for one, two in pairwise(low)) and low[-1] <= "h"
    return rising or all(ord(two) - ord(one) == 1 for one, two in pairwise(sorted(low)))


def is_turned(gold: str, answer: str) -> bool:
    """The letters of a name (UK, 16 GB) in another order, which a product of symbols would not mind."""
    name = _NAME.fullmatch(bare(gold))
    other = _SPELLED.fullmatch(bare(answer)) if name else None
    if not name or not other or ("\\" not in gold and is_product(gold.strip())):
        return False
    theirs = other[1].replace(" ", "")
    return name[1] != theirs and sorted(name[1]) == sorted(theirs)
