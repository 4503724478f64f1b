"""The letters of options: put before texts, taken off texts, split from one text, read from an answer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from gmpo_vl.data.answers import LETTERS

# The mark of an option: A. A: A) (A) [A] A、 `option A:` \textbf{(A)} **A.**; of a number 1. 1) (1) ①
_CLOSING = r"(?:[)）、．:：]|\.(?![A-Z]\.))"  # not of A.D. and B.C.
_STYLED = r"\\(?:textbf|text|mathbf|mathrm|textrm)\s*\{\s*%s\s*\}(?:\\[ ,;:]|~|\\q?quad(?![a-z]))*|\*\*%s\*\*"
_BRACKETS = r"[(（\[【<]\s?(?P<%s>%s)\s?[)）\]】>][.:：、．]?"
_NAMED = r"(?:(?:[Oo]ption|[Cc]hoice|选项)\s?)?"
_LETTER_MARK = re.compile(
    _NAMED
    + "(?:"
    + _BRACKETS % ("a", "[A-Za-zＡ-Ｚ]")
    + rf"|(?P<b>[A-Za-zＡ-Ｚ])\s?{_CLOSING}"
    + "|"
    + _STYLED % (r"[(\[]?(?P<c>[A-Z])[)\]]?[.:)]?~?", r"[(\[]?(?P<d>[A-Z])[)\]]?[.:)]?")
    + r"[.:)]?)"
)
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"
_NUMBER_MARK = re.compile(
    _BRACKETS % ("a", r"\d{1,2}")
    + r"|(?P<b>\d{1,2})(?:[)）、]|[.．](?=\s))"  # 1.5 and 1: 2 are values
    + rf"|(?P<c>[{_CIRCLED}])(?=[\s.、．:：])"
)
_JOINS = re.compile(r"(?:and|or)\b|[,&和或与]", re.IGNORECASE)  # (1) and (2) names two statements
_OTHER_NUMBER = re.compile(rf"[(（]\d{{1,2}}[)）]|[{_CIRCLED}]")


def line_of(letter: str, text: str) -> str:
    """An option as a problem shows it: `A. a cat`; `A` alone for one that is drawn in the picture."""
    return letter if text == letter else f"{letter}. {text}"


def own_letter(text: str) -> tuple[str, str] | None:
    """The letter that an option's text carries, and the text behind it: ("A", "300") of `(A) 300`."""
    return _own(text.strip(), _LETTER_MARK)


def _own(text: str, mark: re.Pattern[str]) -> tuple[str, str] | None:
    formula = "$" if text[:1] == "$" else ""  # $\textbf{(A)}\ 4$
    match = mark.match(text, len(formula))
    if match is None:
        return None
    rest = text[match.end() :].strip()
    if _JOINS.match(rest) or (mark is _NUMBER_MARK and (not rest or _OTHER_NUMBER.search(rest))):
        return None
    return _name(match), formula + rest if rest.strip("$ ") else ""


def _name(match: re.Match[str]) -> str:
    name = next(filter(None, match.groups()))
    return unicodedata.normalize("NFKC", name).upper()


def without_letters(texts: Sequence[str]) -> list[str]:
    """The texts without the letters (or numbers) that they carry, taken off once.

    Only where all carry their own, in order; `A. Smith` among others is a text. An option that is nothing but
    its letter stays that letter: it is drawn in the picture.
    """
    names, bare = named_by_letters(texts)
    return bare if names else list(texts)


def named_by_letters(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the texts call themselves (A, B, ...; 1, 2, ...), and the texts without; no names for plain
    texts.
    """
    for mark, names in ((_LETTER_MARK, LETTERS), (_NUMBER_MARK, _numbers(len(texts)))):
        found = [_own(text.strip(), mark) for text in texts]
        if 1 < len(found) <= len(names) and all(
            own is not None and own[0] == name for own, name in zip(found, names)
        ):
            return list(names[: len(found)]), [rest or name for name, rest in filter(None, found)]
    return [], list(texts)


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


# --- options in one text: `A. x; B. y`, `(A) x (B) y`, a question with its choices below ------------------
_LEAD = re.compile(r"(?:choices|options|选项)\s?[:：]?\s*", re.IGNORECASE)
# What stands before the next mark, the strictest first.
_BEFORE = (
    r"\n\s*",
    r"[;；]\s*",
    r"\|\s*",
    r"[,，]\s*",
    r"\s+|(?:\\q?quad|\\ )\s*\$?|\$\s*",
    r"(?<![A-Za-z0-9])",
)
_TRAILING = " \t\r\n;,；，|"
_STARTS = 50  # places where the options may begin
_FEWEST = 3  # marks in a running text, where `point A. B. ...` may stand


def lettered_text(text: str) -> tuple[list[str], list[str]] | None:
    """(names, texts) of the options that one text holds, alone or below a question; None where it holds none.

    Raises ValueError where a letter stands twice, so that the options cannot be told apart.
    """
    text = text.strip()
    if text[:1] + text[-1:] in ("[]", "{}") and not _LETTER_MARK.match(text):
        text = text[1:-1].strip()
    start = lead[0] if (lead := _LEAD.match(text)) else ""
    for mark, names in ((_LETTER_MARK, LETTERS), (_NUMBER_MARK, _numbers(26))):
        firsts = [m for m in mark.finditer(text) if _name(m) == names[0]][-_STARTS:]
        for first in sorted(firsts, key=lambda m: (m.start() != len(start), -m.start())):
            before = text[: first.start()].rstrip(" \t$")
            alone = first.start() <= len(start) or before == ""
            if not alone and before[-1].isalnum() and not text[first.start() - 1].isspace():
                continue
            below = alone or before[-1] == "\n" or re.search(rf"(?:{_LEAD.pattern})$", before, re.I)
            found = _marks(text, first, mark, names)
            if len(found) >= (2 if below else _FEWEST):
                return _between(text, found, alone)
    return None


def _marks(
    text: str, first: re.Match[str], mark: re.Pattern[str], names: Sequence[str]
) -> list[re.Match[str]]:
    """The marks from `first` on, in order and of one style, as many as can be found."""
    style = _style(first)
    marks = [m for m in mark.finditer(text, first.end()) if _style(m) == style]
    best = [first]
    for before in (*_BEFORE, "") if style[:1] in ("(", "[") else _BEFORE:
        parted = re.compile(rf"(?:{before})\Z")
        found = [first]
        fitting = [m for m in marks if parted.search(text[max(0, m.start() - 40) : m.start()])]
        while len(found) < len(names):
            same = [m for m in fitting if m.start() >= found[-1].end() and _name(m) == names[len(found)]]
            if not same:
                break
            found.append(same[0])
        if len(found) > len(best):
            best, used = found, fitting
    if len(best) > 1:
        _check_once(best, used)
    return best


def _check_once(found: list[re.Match[str]], fitting: list[re.Match[str]]) -> None:
    ends = [*(m.start() for m in found[2:]), float("inf")]
    for match, end in zip(found[1:], ends):
        if sum(match.start() <= m.start() < end and _name(m) == _name(match) for m in fitting) > 1:
            raise ValueError(f"{_name(match)} stands twice in it")


def _style(match: re.Match[str]) -> str:
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", match[0]).replace(_written(match), "", 1))


def _written(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", next(filter(None, match.groups())))


def _between(text: str, found: list[re.Match[str]], alone: bool) -> tuple[list[str], list[str]]:
    ends = [*(m.start() for m in found[1:]), len(text)]
    texts = [text[m.end() : end].strip(_TRAILING) for m, end in zip(found, ends)]
    if found[0][0][0] == "\\":
        texts = [_closed(t) for t in texts]
    one_a_line = all("\n" in text[a.end() : b.start()] for a, b in pairwise(found))
    if (one_a_line or not alone) and not any("\n" in t for t in texts[:-1]):
        texts[-1] = texts[-1].partition("\n")[0].strip(_TRAILING)  # what follows belongs to the question
    names = [_name(m) for m in found]
    return names, [t or name for t, name in zip(texts, names)]


def _closed(text: str) -> str:
    r"""An option without the half formula and the spacing that the marks around it leave."""
    text = re.sub(r"^(?:\\[ ,;:]|~)+|(?:\\q?quad|\\ )+\s*\$?$", "", text).strip(_TRAILING)
    if text.count("$") % 2:
        text = text[1:] if text[:1] == "$" else text[:-1] if text[-1:] == "$" else text
    return text.strip()


# --- letters in an answer: `A`, `(A)`, `Option A`, `A, C`, `AC` --------------------------------------------
CHINESE_LEAD = r"(?:故|应|所以)?(?:正确)?(?:答案|选项|选择|选)[是为]?\s?[:：]?\s*"
_SAID = re.compile(
    r"(?:the )?(?:(?:correct|right|final) )*(?:answers?|options?|choices?)\b(?: (?:is|are))?\s?[:：]?\s*"
    rf"|{CHINESE_LEAD}",
    re.IGNORECASE,
)
_ONE = r"(?:[(（\[【] ?)?[A-Za-z](?: ?[)）\]】])?[.．:：]?"
_AND = r" ?(?:[,，;；、&+和]|\band\b| ) ?(?:and\b ?)?"
_LETTERS = re.compile(rf"{_ONE}(?:{_AND}{_ONE})*")
_GLUED = re.compile(r"[A-Z]{2,}")
_LONGEST = 120


def letters_in(text: str) -> str:
    """The letters that an answer consists of, in its order: "AC" of `A, C`, `(A) and (C)` and `AC`; "" for
    any other text, for a letter twice, and for letters side by side that are not sorted (BAD is a word).
    """
    if len(text) > _LONGEST:
        return ""
    text = " ".join(text.strip().strip("\"'").split())
    said = _SAID.match(text)
    text = text[said.end() :] if said else text
    text = text.rstrip(" .。;；")
    if _GLUED.fullmatch(text):
        return text if list(text) == sorted(set(text)) else ""
    if not _LETTERS.fullmatch(text):
        return ""
    found = re.sub(r"\band\b", " ", text, flags=re.IGNORECASE)
    letters = "".join(re.findall(r"[A-Za-z]", found)).upper()
    return letters if len(set(letters)) == len(letters) else ""


_SPACES = re.compile(r"\s+")
_QUOTES = str.maketrans("‘’“”，；：！？（）", "''\"\",;:!?()")


def folded(text: str) -> str:
    """A text for comparing: without case, outer quotes, a final full stop; with one space for many."""
    text = _SPACES.sub(" ", text.translate(_QUOTES)).strip().rstrip(".。 ")
    return text.strip("\"'").strip().rstrip(".。 ").casefold()
