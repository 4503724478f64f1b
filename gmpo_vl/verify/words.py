r"""Answers as words: compared word by word; what leads to them and what qualifies them.

Text in, text out: whether values are equal is decided elsewhere.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate

from gmpo_vl.verify.normalise import normalise

NUMBER = r"-?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
TEXT_GROUP = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|hbox|mathbf)\s*\{([^{}]*)\}")
_ALL_TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|hbox|mathbf)\s*\{(.*)\}")
_COUNTING = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen""".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBER_WORDS = {word: n for n, word in enumerate(_COUNTING)}
_NUMBER_WORDS |= {word: 10 * n for n, word in enumerate(_TENS, start=2)}
_CHINESE_NUMBERS = {word: str(n) for n, word in enumerate("零一二三四五六七八九十")} | {"两": "2"}
_COUNTED_OUT = re.compile(
    rf"\b(?:(?:{'|'.join(_TENS)})(?:[ -](?:{'|'.join(_COUNTING[1:10])}))?|(?:{'|'.join(_COUNTING)}))\b",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SAME_WORDS: dict[str, str] = {
    "solutions": "solution",
    "exists": "exist",
    "roots": "root",
    "info": "information",
}
_NO_SOLUTION = (
    "no real solution", "no solution exist", "there is no solution", "there are no solution", "no real root",
)  # fmt: skip
_SAME_PHRASES: dict[str, str] = {"infinite": "infinitely many", "infinitely many solution": "infinitely many"}
_SAME_PHRASES |= {"infinite solution": "infinitely many", "does not exist": "dne"}
_SAME_PHRASES |= dict.fromkeys(_NO_SOLUTION, "no solution")
_SEPARATED = re.compile(r"[,;&]|\band\b")
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|hbox|mathbf|operatorname)\s*(?=\{)")
_CLOCK = re.compile(r"(?<![a-z])([ap])\.?\s?m(?![a-z])\.?")  # a.m.
_SPACING = re.compile(r"\\[,;:! ]|\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\$")
_IDLE = re.compile(r"\s+(?!\w)|(?<!\w)\s+|(?<![.])[.]\s*$")
_BARE = re.compile(r"[{}$\\]|\s+")
_WORD = re.compile(r"[^\W_]+|[+*/=<>^_|!#\[\]]|(?<!\w)-|-$")  # C#, B-
_EXCLAMATION = re.compile(r"(?<=[^\W\d_]{2})[!?]*![!?]*(?=\s|$)")  # n! and 5! are factorials
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_]{2})")
_APOSTROPHE = re.compile(r"(?<=[^\W_]{2})'(?=[a-z])")  # of men's, don't, 1980's; no f'g
_MONTHS = """january february march april may june july august september october november december""".split()
_MONTH = rf"({'|'.join(_MONTHS)}|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)"
_DAY = r"\b(\d{1,2})(?:st|nd|rd|th)?"
_DATE = re.compile(rf"{_DAY} (?:of )?{_MONTH}(?!\w)|\b{_MONTH} {_DAY}(?![\w:])")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[^\w+*/=<>^|!\[\]]+(?=\d)")
_MEASURE = re.compile(r"\\\$|%")
_LISTED = re.compile(r"[,;&]\s*(?:and\b)?|\band\b")
_ITEM = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*")
_CASED_ITEM = 3  # letters of a shorter one, which may be a symbol: CO and Co
# Words of a list whose order says something.
_ORDERED = re.compile(
    r"\b(?:yes|no|true|false|correct|incorrect|right|wrong|then|next|first|second|third|last|finally|before"
    r"|after|followed|to|from|(?:in|de)creas\w*|unchanged|same|constant|positive|negative|more|less|greater"
    r"|smaller|larger|higher|lower|left|up|down)\b|[是否对错先再后增减变升降左右正负]|大于|小于|等于|然后",
    re.IGNORECASE,
)


@lru_cache(maxsize=20_000)
def bare(text: str) -> str:
    """Without text commands, braces, dollars and outer punctuation."""
    if text.isascii() and text.isalnum():
        return text
    return _BARE.sub(" ", _TEXT_COMMAND.sub("", normalise(text))).strip().strip(".").strip()


@lru_cache(maxsize=20_000)
def in_digits(text: str) -> str:
    """`two dogs` as `2 dogs`, `twenty-one` as 21, 三 as 3, `1,000` as 1000; other texts as they are."""
    plain = bare(text)
    if plain in _CHINESE_NUMBERS:
        return _CHINESE_NUMBERS[plain]
    if "\\$" in (sign_and_all := normalise(text)):  # a dollar sign stays one
        plain = sign_and_all
    found = _THOUSANDS.sub(lambda m: m[0].replace(",", ""), _COUNTED_OUT.sub(_number_of, plain))
    return text if found == plain else found


def without_exclamation(text: str) -> str:
    """`Yes!` as Yes: after a word the mark says nothing."""
    return _EXCLAMATION.sub("", text) if "!" in text else text


@lru_cache(maxsize=20_000)
def as_spoken(text: str) -> str:
    """`Men's!` as `Mens`: without marks that are not spoken."""
    return _APOSTROPHE.sub("", without_exclamation(text))


def _month_and_day(date: re.Match[str]) -> str:
    """`3rd of Mar.` as `march 3`."""
    month, day = date[2] or date[3], date[1] or date[4]
    return f"{next(name for name in _MONTHS if name.startswith(month[:3]))} {day}"


def _number_of(spoken: re.Match[str]) -> str:
    return str(sum(_NUMBER_WORDS[word] for word in re.split("[ -]", spoken[0].lower())))


@lru_cache(maxsize=20_000)
def _words(text: str) -> tuple[str, ...]:
    """The words and the signs of arithmetic, without case, punctuation and a leading article."""
    plain = _DATE.sub(_month_and_day, _CLOCK.sub(r"\1m ", as_spoken(bare(text)).lower()))
    words: list[str] = _WORD.findall(plain)
    phrase = " ".join(_SAME_WORDS.get(word, word) for word in words)
    words = _SAME_PHRASES.get(phrase, phrase).split()
    return tuple(words[1:] if words[:1] in (["the"], ["a"], ["an"]) and len(words[-1]) > 2 else words)


def same_words(gold: str, answer: str, ordered: bool = False) -> bool:
    """The same words in the same order; letters of options (A, C and F) in any order, unless `ordered`."""
    usual = (gold, answer.lower(), answer.upper(), answer.title())
    if len(answer) < 5 and answer.isalpha() and answer not in usual:
        return False  # BIl is no BIL
    ours, theirs = _words(gold), _words(answer)
    if _SEPARATED.search(gold) and all(len(word) == 1 or word.isdecimal() or word == "and" for word in ours):
        ours, theirs = (tuple(word for word in words if word != "and") for words in (ours, theirs))
        if not ordered and all(map(str.isalpha, ours)):
            ours, theirs = tuple(sorted(ours)), tuple(sorted(theirs))
    if ours != theirs and "-" in gold + answer:  # T-shirt, tshirt
        ours, theirs = (_words(_HYPHEN.sub("", text)) for text in (gold, answer))
    return bool(ours) and ours == theirs and _same_marks(gold, answer)


def _same_marks(gold: str, answer: str) -> bool:
    """Whether two texts of the same words have the same marks between digits: 1.5 is no 1-5 and no 1,5, but
    555-1234 is 555 1234; and no other signs of measure: $7 is no 7%.
    """
    ours, theirs = ({*_MEASURE.findall(normalise(text))} for text in (gold, answer))
    if ours and theirs and ours != theirs:
        return False
    for ours, theirs in zip(*(map(_mark, _BETWEEN_DIGITS.findall(bare(text))) for text in (gold, answer))):
        if ours != theirs and (ours + theirs in (".", ":") or (ours and theirs)):
            return False
    return True


def _mark(gap: str) -> str:
    """What stands between two digits: "" for a space, brackets, and a stop with a space after it."""
    return "" if gap == ". " else gap.strip(" ()")


def same_items(gold: str, answer: str) -> bool:
    """Whether two lists of words are the same, with commas or "and"; three words or more, each another one,
    in any order. Of two words the order may say something (increase, decrease).
    """
    if not _SEPARATED.search(normalise(gold)):
        return False
    ours, theirs = _items(gold), _items(answer)
    if ours == theirs:
        return bool(ours)
    any_order = 2 < len(ours) == len(set(ours)) and not _ORDERED.search(gold)
    return any_order and sorted(ours) == sorted(theirs)


@lru_cache(maxsize=20_000)
def _items(text: str) -> tuple[str, ...]:
    """The words of a list; () for what is none."""
    items = [item.strip() for item in _LISTED.split(bare(text))]
    if not all(map(_ITEM.fullmatch, items)):
        return ()
    return tuple(item if len(item) < _CASED_ITEM else item.lower() for item in items)


@lru_cache(maxsize=20_000)
def squeezed(text: str) -> str:
    """Without spacing commands, and white space only where it parts two digits or letters."""
    if text.isascii() and text.isalnum():
        return text
    return _IDLE.sub("", _SPACING.sub(" ", normalise(text)))


def set_as_text(text: str) -> str | None:
    r"""What stands in a text command around everything, `\text{6\sqrt{3} m}`; None without one."""
    inner = None
    while match := _ALL_TEXT.fullmatch(text):
        depths = accumulate({"{": 1, "}": -1}[brace] for brace in re.findall(r"[{}]", match[1]))
        if min(depths, default=0) < 0:  # \text{a} b \text{c}
            break
        inner = text = match[1].strip()
    return inner


# --- what leads to an answer ---------------------------------------------------------------------------
_NOUN = r"(?:answer|ans|result|value|option|opt|choice|letter|solution)"
_LEAD = re.compile(
    rf"(?:(?:therefore|thus|hence|so|then|correct|finally|but)\b[,:]?|(?:the\s|my\s|our\s)?(?:final\s"
    rf"|correct\s|right\s|best\s|only\s)*{_NOUN}\b(?:\.(?!\d))?"
    r"(?:\s?(?:is|are|was|would be|must be|should be|=|:)(?![a-z]))*|(?:it|this|that)(?:'s| is| must be)\b"
    r"|(?:i(?:'d| would)? (?:say|go with)|(?:i(?:'d| would)? )?(?:choose|pick|select))\b"
    r"|(?:approximately|about|exactly)\b|[,:.](?= )) ?",
    re.IGNORECASE,
)
_FINAL = re.compile(r"\b(?:final|correct) (?:answer|choice|option)(?: is|:)+ ", re.IGNORECASE)

# --- qualifiers -----------------------------------------------------------------------------------------
_SETS = r"\\mathbb ?\{? ?[RZNQC] ?\}?(?:\^\{?[+*\d]\}?|_\{?[+*>\d]*\}?)?|\\[RZNQ]\b|[ℝℤℕℚℂ]"
_NAMES = r"[a-zA-Z]\b(?: ?(?:,|and\b) ?[a-zA-Z]\b){0,4}"
_MEMBER = rf"{_NAMES} ?\\in ?(?:{_SETS})"
# What is said of the names: their kind, a set they are from, a bound, or a count that goes on (n = 1, 2, 3,
# \ldots).
_KIND = (
    r"(?:is|are|be|an?|any|all|every|each|some|the|in|domain|arbitrary|positive|nonnegative|non-negative"
    r"|nonzero|non-zero|real|complex|natural|whole"
    r"|integers?|numbers?|constants?(?: of integration)?|parameters?)\b"
)
_BOUND = r"(?:\\(?:le|ge|leq|geq|leqslant|geqslant|ne|neq)(?![a-zA-Z])|[<>≤≥≠]=?) ?-?\d+(?:\.\d+)?"
_COUNT = r"= ?-?\d+ ?(?:, ?-?\d+ ?){1,9}, ?(?:\\[lc]?dots|\.\.\.|…)"
_OF_NAMES = rf"(?: ?(?:{_KIND}(?: {_KIND}){{0,5}}|\\in ?(?:{_SETS})|{_BOUND}|{_COUNT}))"
_QUALIFIER = re.compile(
    rf"(?<![ ,;(])[ ,;(]+(?:(?:(?:for|where|with) |\\forall ?)(?:{_KIND} ){{0,5}}({_NAMES}){_OF_NAMES}{{0,3}}"
    rf"|({_NAMES}) ?\\in ?(?:{_SETS})|({_NAMES})(?: {_KIND}){{1,5}}) ?\)? ?[.;]?$"
    r"|(?<![ ,;(])[ ,;(]+(?:only|exactly|altogether|in (?:total|all)|(?:is )?(?:the )?only (?:solution"
    r"|answer|one|value))\)?\.?$",
    re.IGNORECASE,
)
_SOME = re.compile(r"some ([a-z])\b(?! ?\\in)")
_LETTER = re.compile(r"\b[a-zA-Z]\b")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_LIMITS = re.compile(r"[<>≤≥≠=]|\\(?:le|ge|ne)")
_QUALIFIED = re.compile(
    rf"(?:\\forall|for (?:all|any|every)) ?(?:{_MEMBER}|{_NAMES}) ?[,:] ?|(?:all|the|any) (?:functions?"
    rf"|solutions?)(?: of the form)? (?=[a-zA-Z] ?[(=])|only (?=[a-zA-Z] ?=)",
    re.IGNORECASE,
)
_QUALIFYING = re.compile(
    r"for|where|with|\\in|∈|only|unctions|olutions|constant|integer|exactly|total|altogether|all"
)
_SPACES = re.compile(r"(?:\\(?:quad|qquad)(?![a-zA-Z])|\\[,;:! ]|~|\s)+")
_SAYS_NOTHING = re.compile(
    r"\b(?:in all|for|where|with|all|any|every|each|some|is|are|be|an?|constant|arbitrary|numbers?|only|the"
    r"|solution|answer|one|value|exactly|altogether|in total)\b"
    r"|[\s,;().\\{}]|mathbb|forall"
)
_ELSE = re.compile(r"\b(?:or|either|not|but)\b", re.IGNORECASE)


@lru_cache(maxsize=20_000)
def parted(text: str) -> tuple[str, str]:
    r"""The answer, and what qualifies it (`for all x`, `where c is a constant`, `, k \in \mathbb{Z}`)."""
    if not _QUALIFYING.search(text):
        return text, ""
    flat = _SPACES.sub(" ", TEXT_GROUP.sub(r" \1 ", text).replace("$", "")).strip()
    if before := _QUALIFIED.match(flat):
        return flat[before.end() :], _plain(before[0]) if before[0][0] == "\\" else ""
    after = _QUALIFIER.search(flat)
    if not after or after.start() == 0 or _ELSE.search(after[0]):
        return text, ""
    head, condition = flat[: after.start()].strip(" ,;"), _plain(after[0])
    some = _SOME.search(after[0])
    if some and f"({some[1]})" in head:  # a function is given for all its arguments
        return text, ""
    names = _LETTER.findall(after[1] or after[2] or after[3] or "")
    narrows = limits(head.replace("=", "")) and not condition.endswith("inr")  # x < 5 for x > 3
    if condition and (narrows or not set(names) <= {*_COMMAND.sub("", head)}):
        return text, ""
    return head, condition


def limits(condition: str) -> bool:
    """Whether a qualifier bounds a name (n > 1), which leaves something out."""
    return _LIMITS.search(condition) is not None


def _plain(qualifier: str) -> str:
    """A qualifier without what does not matter: "" for "for all x", "only", "where c is a constant"."""
    plain = re.sub(r"\bintegers?\b", "inz", re.sub(r"\breals?\b", "inr", qualifier.lower()))
    plain = _SAYS_NOTHING.sub("", plain)
    for numbers in ("inz", "inr"):  # integers k, k in Z
        if numbers in plain:
            plain = plain.replace(numbers, "") + numbers
    return "" if len(plain) < 2 else plain


# --- yes and no ---------------------------------------------------------------------------------------------
_YES_OR_NO = re.compile(
    r"(yes|no)(?:(?:(?P<mark>\s*[,.;:!—–]\s*)|\s+-\s+|\s+(?=(?:it|they|there|the|this|that|because|since)\b))"
    r"(?P<reason>.*))?",
    re.IGNORECASE | re.DOTALL,
)
_EITHER = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)
# What may take a yes back, and what takes back both.
_DENIES = re.compile(r"\b(?:not|never|none|cannot|wrong|incorrect|false|untrue)\b|n['’]t\b", re.IGNORECASE)
_HEDGES = re.compile(
    r"\b(?:opposite|maybe|perhaps|might|may|depends|unsure|unclear|but|or not)\b", re.IGNORECASE
)
_NOTHING_BUT_DENIES = re.compile(
    r"(?:(?:because|since) )?(?:(?:it|this|that|they|the (?:answer|statement)) ?)?"
    r"(?:(?:really|probably|certainly|is|are|does|do|was|were) ?)*"
    r"(?:not(?: (?:really|exactly|quite))?|n['’]t|wrong|incorrect|false|untrue|the opposite)",
    re.IGNORECASE,
)


def yes_or_no(text: str) -> str | None:
    """`yes` of `Yes` and of `Yes, it is larger`; None for other texts, also where both words stand there, or
    where the reason is in doubt or takes the word back: `Yes, it depends`, `Yes it is wrong`. Behind a mark
    it may deny something else: `Yes, since b is not 0`."""
    found = _YES_OR_NO.fullmatch(bare(text))
    if found is None:
        return None
    word, reason = found[1].lower(), found["reason"] or ""
    others = {said.lower() for said in _EITHER.findall(reason)} - {word}
    if others or _HEDGES.search(reason):
        return None
    denies = _NOTHING_BUT_DENIES.fullmatch(reason.strip(" .!")) if found["mark"] else _DENIES.search(reason)
    return None if word == "yes" and denies else word


# --- leads ----------------------------------------------------------------------------------------------
@lru_cache(maxsize=20_000)
def without_lead(text: str) -> str:
    """`Therefore, the final answer is: 7` as 7; what is called the final answer is the answer."""
    text = " ".join(text.split())
    finals = list(_FINAL.finditer(text))
    if finals:
        text = text[finals[-1].end() :]
    at = 0
    while at < len(text) and (lead := _LEAD.match(text, at)):
        at = lead.end()
    return text[at:] if at < len(text) else text


# --- sets -----------------------------------------------------------------------------------------------
_NAMED = re.compile(
    r"(?:the )?(?:set of )?(?:all|any|every) (?:the )?"
    r"(?:(real|rational|complex) ?(?:numbers?|values?)|(real|integer)s?)"
    r"(?: [a-z]| values? of [a-z])?(?:,? except(?: for)? (?:[a-z] ?= ?)?(.+))?"
)
_LETTER_OF_SET = {"real": "R", "integer": "Z", "rational": "Q", "complex": "C"}
_EMPTY = re.compile(r"(?:the )?empty set|(?:the )?null set")


def named_set(words: str) -> str | None:
    r"""`\mathbb{R}` for `all real numbers`, `\mathbb{R} \setminus \{2\}` with an exception; or None."""
    words = " ".join(words.split())
    if _EMPTY.fullmatch(words):
        return r"\emptyset"
    match = _NAMED.fullmatch(words)
    if not match:
        return None
    numbers = rf"\mathbb{{{_LETTER_OF_SET[match[1] or match[2]]}}}"
    return rf"{numbers} \setminus \{{{match[3]}\}}" if match[3] else numbers
