"""The options that an answer names by letter: `C`, `Option (C): 18 cm`, `18 cm [C]`, `A and D`, `选C`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gmpo_vl.data.letters import CHINESE_LEAD, own_letter
from gmpo_vl.verify.normalise import normalise, unmarked
from gmpo_vl.verify.words import TEXT_GROUP, set_as_text, squeezed, without_exclamation, without_lead


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
_ARROW = re.compile(r"\\(?:to|rightarrow|Rightarrow|implies|longrightarrow)(?![a-zA-Z])(?=[\s$]*[^\s$])")
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
    r"(.*[^\s(\[<,;:=-])[ ,;:=]*(?:[(\[<] ?(?:(?:option|choice) )?([A-Z])[.]? ?[)\]>]|[→=] ?([A-Z]))[.]?",
    re.IGNORECASE,
)
_ALONE = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])|[^\x00-\x7f]")
_EXCLAIMED = re.compile(r"(?:\(([A-Z])\)|([A-Z]))\.?!+")  # no n!
_TWICE = re.compile(r"\(?([A-Z])\)?(?: ?(?:/|,|or|=) ?\(?\1\)?)+")


# After the right letter: another one (A only where it is no article), a list of letters, or that it is wrong.
_TAKEN_BACK = re.compile(
    r"\b[B-HJ-Z]\b|\bA\b(?!\s+\w\w)|\bor\b|\band\b|^(?:[a-j]\W+)+[a-j]$|^(?:wrong|incorrect)\b"
    r"|\b(?:is|was|be)\s+(?:wrong|incorrect|false|not\s+(?:right|correct|true|it|the))\b"
)


@lru_cache(maxsize=20_000)
def plain(text: str) -> str:
    """The answer as plain text: without styles, dollars, braces and leads."""
    text = TEXT_GROUP.sub(r" \1 ", _ARROW.sub("→", normalise(set_as_text(text) or text)))
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
    if exclaimed := _EXCLAIMED.fullmatch(text):
        return Named(exclaimed[1] or exclaimed[2])
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
_BRACKETED = re.compile(r"[(\[{] ?([A-Z]) ?[)\]}]")
_NO_LETTERS = re.compile(r"[\d+*/^=<>|]")
_ALONE_OR_RUN = re.compile(r"(?<![A-Za-z\\])[A-Z]")
_BETWEEN = frozenset(", ; & and".split())


@lru_cache(maxsize=20_000)
def several(text: str, last: str = "J") -> frozenset[str] | None:
    """The letters of `AD`, `A and D`, `(A), (D)`, `A, D only`; None unless there are two or more.

    last: the last letter that can be an option's; where the options are not known, later ones may be points.
    """
    if len(text) > 80 or _NO_LETTERS.search(text) or not _ALONE_OR_RUN.search(text):
        return None
    words = _LIST.findall(_BRACKETED.sub(r" \1 ", _AROUND.sub("", plain(text))))
    while ", and" in " ".join(words):  # B, C, and D
        words.remove("and")
    letters = words[::2] if len(words) > 1 else list("".join(words))
    if not all(word in _BETWEEN for word in words[1::2]) or not all(
        "A" <= c <= last and len(c) == 1 for c in letters
    ):
        return None
    return frozenset(letters) if 1 < len(letters) == len(set(letters)) and len(words) != 2 else None


def other_letters(text: str) -> bool:
    """Whether a text hedges: another letter (A only if it is no article), "or", "and", a denial."""
    return _TAKEN_BACK.search(text) is not None


# --- a letter with a text ----------------------------------------------------------------------------------
_BEHIND = re.compile(
    r"(.*[^ ,;:~])(?:\\?[ ,;:]|~)*[(\[] ?(?:(?:option|choice) )?\{?([A-Z])\}?\.? ?[)\]]\.?",
    re.IGNORECASE,
)
_CONCLUDED = re.compile(  # 12, C; 12, so the answer is C
    r"(.*?[^ ,;:~])(?:,| ?=|,? (?:(?:which|that) (?:is|corresponds to)|is|so|thus|hence|therefore|i\.e\.,?"
    r"|correspond(?:s|ing) to|matches)),?(?: (?:the|correct|final|answer|option|choice|letter|is))*:?"
    r" ?\(?([A-Z])\)?\.?"
)
_REASONED = re.compile(  # C because it is 12; C | 12
    r"\(?([A-Z])[.)]?(?:,? (?:because|since|as) (?:it|this|that|the (?:answer|value|result)) (?:is|equals|=)"
    r"| is| equals| corresponds to| matches| ?[|/]) ?(.+)"
)
_BESIDE = re.compile(r"\(?([A-Z])[.)]?(?:,? (?:i\.e\.,?|which is)| ?(?:[,;=→]|->|\\quad)) ?(.+)")  # C, 12
_IN_BRACKETS = re.compile(r"\(?([A-Z])\)? ?\((.+)\)")
_LONE = re.compile(r"\(?[A-Z]\)?")
BESIDE_LETTERS = re.compile(r"[,;/|]|\bmatches\b")  # between two letters: two options, and no option's text
_IN_DOLLARS = re.compile(r"\$\(?([A-Z])\)?\.?\$[.:)]? ?(.+)")


def letters_and_texts(answer: str) -> Iterator[tuple[str, str]]:
    """("B", "a cat") of `B. a cat`, `a cat (B)`, `B because it is a cat`: how an answer can be read."""
    text = TEXT_GROUP.sub(r" \1 ", set_as_text(answer) or answer).strip()  # \text{A. \$5}
    yield from filter(None, map(own_letter, dict.fromkeys((answer, text))))
    for flat in dict.fromkeys(" ".join(said.split()) for said in (answer, text)):
        concluded = _CONCLUDED.fullmatch(flat)
        if concluded and _LONE.fullmatch(concluded[1]):  # A, C are two options
            concluded = None
        if behind := _BEHIND.fullmatch(flat) or concluded:
            yield behind[2].upper(), behind[1]
        before = _REASONED.fullmatch(flat) or _IN_DOLLARS.fullmatch(flat)
        if before and not (_LONE.fullmatch(before[2]) and BESIDE_LETTERS.search(flat)):
            yield before[1], before[2]
        beside = _BESIDE.fullmatch(flat) or _IN_BRACKETS.fullmatch(flat)
        if beside and not _LONE.fullmatch(beside[2]):
            yield beside[1], beside[2]


# --- how an option's text is spelled ----------------------------------------------------------------------
_CHINESE_LEAD = re.compile(CHINESE_LEAD)
_CHINESE_RIGHT = re.compile(r"(?<=[A-Z])(?:选?项)?是?(?:正确|对)的?(?:答案|选?项)?$")
_DASH_LEAD = re.compile(r"(?:(?:final|correct) )?answer ?[-–—] ?(?=\(?[A-Z]\b)", re.IGNORECASE)
_LIST_OF_ONE = re.compile(r"\\?[\[{] ?([\"']?)(\(?[A-Z]\)?)\1 ?\\?[\]}]")
_WRAPPER = re.compile(r"\\(?:text|mbox|textbf|mathrm)\s*\{(.*)\}", re.DOTALL)
_BESIDE_DIGIT = re.compile(r"(?<=[^\W\d_]) (?=\d)|(?<=\d) (?=[^\W\d_])")  # 24 cm is 24cm
_SENTENCE_MARKS = re.compile(r"[\"'“”‘’.,;:!?。，；：！？\s]+")
_PLAIN_WORDS = re.compile(r"[^\\${}^_=<>+*/|\[\]]*")
_WORDS = re.compile(r"[^\W\d_]{2,}")
_SHORT_WORDS = re.compile(r"[A-Za-z]{2,}(?:[ -][A-Za-z]+)*|[A-Za-z]")


def as_option(answer: str) -> str:
    """`选C。`, `答案：C`, `选项C正确`, `["C"]`, `Answer - C` as C."""
    if answer.isascii():
        alone = _LIST_OF_ONE.fullmatch(answer)
        return alone[2] if alone else _DASH_LEAD.sub("", answer, count=1)
    lead = _CHINESE_LEAD.match(answer)
    said = (answer[lead.end() :] if lead else answer).rstrip("。．")
    return _CHINESE_RIGHT.sub("", said) or answer


@lru_cache(maxsize=20_000)
def closely(text: str) -> str:
    """A text without what is no part of it: spaces, dollars, text commands, quotes around, a final stop."""
    whole = " ".join(text.split())
    text = unmarked(whole.rstrip("。"))
    wrapped = _WRAPPER.fullmatch(text)
    if wrapped and "}" not in wrapped[1].partition("{")[0]:
        text = wrapped[1]
    found = _BESIDE_DIGIT.sub("", squeezed(TEXT_GROUP.sub(r" \1 ", text).replace("~", " ")))
    return found or whole.strip("$ ")  # an arrow alone


@lru_cache(maxsize=20_000)
def loosely(text: str) -> str:
    """The words of a text, without case and marks; "" for a value or a formula, where these say something."""
    text = TEXT_GROUP.sub(r" \1 ", text)
    words = _WORDS.findall(text)
    is_sentence = len(words) >= 3 if any(map(str.isdigit, text)) else any(len(word) > 2 for word in words)
    if not is_sentence or not _PLAIN_WORDS.fullmatch(text):
        return ""
    return _SENTENCE_MARKS.sub(" ", normalise(text)).strip().casefold()


@lru_cache(maxsize=20_000)
def caseless(text: str) -> str:
    """Short words and letters without case and "!" (Up, CT, mL, No!); "" for anything else. Where options
    tell them apart, case says nothing.
    """
    text = without_exclamation(closely(text))
    return text.casefold() if _SHORT_WORDS.fullmatch(text) else ""


_INNER_MARK = re.compile(r"(?<=[A-Za-z])['’-](?=[A-Za-z])")


def joined(text: str) -> str:
    """The words of a text without the marks inside them: `T-shirt` as tshirt; "" as of `loosely`."""
    return loosely(_INNER_MARK.sub("", text))
