"""The strict profile: a gold and the content of a box to an outcome."""

from __future__ import annotations

import re
from functools import lru_cache

from gmpo_vl.verify import countdown
from gmpo_vl.verify.compare import same
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.lex import MAX_CHARS
from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.parse import parse
from gmpo_vl.verify.quantities import EXACT, Leeway, Undecided
from gmpo_vl.verify.tokens import Unreadable
from gmpo_vl.verify.tree import Node, constants, contains, symbols

_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SAID = r"(?:the\s+|final\s+)*(?:answer|result|value)\s*(?:is|=|:)+\s*|(?:approximately|about|exactly)\s+"
_LEAD = re.compile(
    rf"{_SAID}|\\(?:text|textbf|mathrm|mbox)\s*\{{\s*(?:{_SAID})\}}|\\(?:approx|sim)(?![a-zA-Z])\s*",
    re.IGNORECASE,
)
_ANSWER_WORDS = frozenset(
    "yes no true false none even odd".split()
)  # words, in any case, and no products of symbols
_CHOICE = re.compile(r"\(?([A-Z])\)?")
_CHOICE_IN_ANSWER = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)\s*(?:is|:)?\s*)?\(?([A-Za-z])(?:\)|[.:](?=\s|$)|$)\s*(.*)",
    re.DOTALL | re.IGNORECASE,
)
# After the right letter: another one (A only where it is no article), a list of letters, or that it is wrong.
_TAKEN_BACK = re.compile(
    r"\b[B-HJ-Z]\b|\bA\b(?!\s+\w\w)|\bor\b|\band\b|^(?:[a-j]\W+)+[a-j]$|^(?:wrong|incorrect)\b"
    r"|\b(?:is|was|be)\s+(?:wrong|incorrect|false|not\s+(?:right|correct|true|it|the))\b"
)
_PLAIN_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_TEXT_GROUP = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|hbox|mathbf)\s*\{([^{}]*)\}")
_LETTERS_ONLY = re.compile(r"(?=.*\b(?!and\b)[A-Za-z]{3,})[A-Za-z ]+[.]?")
_NAME = re.compile(r"(?:\d[\d.,]*\s+)?([A-Za-z]{2,})[.]?")  # UK, USA, 16 GB
_SPELLED = re.compile(r"(?:\d[\d.,]*\s*)?([A-Za-z ]{2,})[.]?")
_SEPARATED = re.compile(r"[,;&]|\band\b")
# Dates, telephone numbers and scores: 12/05/2020, 555-1234, 21-14.
_NO_ARITHMETIC = re.compile(r"\d{1,4}([-/])\d{1,2}\1\d{2,4}|\d+-\d+(?:-\d+)*")
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|hbox|mathbf|operatorname)\s*(?=\{)")
_CLOCK = re.compile(r"(?<![a-z])([ap])\.?\s?m(?![a-z])\.?")  # a.m.
_NUMBER_WORDS = {
    word: str(n)
    for n, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
}
_DIGIT = re.compile(r"\d")
_SPACING = re.compile(r"\\[,;:! ]|\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\$")
_IDLE = re.compile(r"\s+(?!\w)|(?<!\w)\s+|(?<![.])[.]\s*$")
_BARE = re.compile(r"[{}$\\]|\s+")
_WORD = re.compile(r"[^\W_]+|[+*/=<>^_|!\[\]]|(?<!\w)-")


@lru_cache(maxsize=50_000)
def judge(gold: Gold, answer: str) -> str:
    """The outcome for the content of a box: `equal`, `different`, `hedged`, `undecided`, `unreadable` or `too_long`."""
    if len(answer) > MAX_CHARS:
        return "too_long"
    if gold.type == "countdown":
        return countdown.judge(gold, answer)
    outcomes = [_judge(alternative, gold, answer) for alternative in gold.alternatives]
    for outcome in ("equal", "undecided"):
        if outcome in outcomes:
            return outcome
    return outcomes[0]


@lru_cache(maxsize=50_000)
def gold_type(gold: Gold) -> str:
    """What a gold is read as; the field of the verdict."""
    return gold.type or ("choice" if gold.choices else _type_of(gold.alternatives[0]))


def _judge(alternative: str, gold: Gold, answer: str) -> str:
    kind = gold.type or _type_of(alternative)
    if kind == "choice" or gold.choices:
        return _judge_choice(alternative, gold, answer)
    return _judge_value(alternative, kind, Leeway(gold.tolerance, kind == "rounded"), answer)


def _judge_value(alternative: str, kind: str, leeway: Leeway, answer: str) -> str:
    if answer == alternative:
        return "equal"
    if leeway == EXACT and _PLAIN_NUMBER.fullmatch(answer) and _PLAIN_NUMBER.fullmatch(alternative):
        return "equal" if _plain_value(answer) == _plain_value(alternative) else "different"  # most answers
    if _squeezed(alternative) == _squeezed(answer):
        return "equal"
    # east is not seat, though e·a·s·t is s·e·a·t
    if kind == "text" or (_is_wordy(alternative) and _is_wordy(answer)):
        return "equal" if _same_words(alternative, answer) else "different"
    if _is_turned(alternative, answer):
        return "different"
    left, right = trees(alternative)[:1], trees(answer)  # a gold has one reading: 1,234 is a number
    if not left or not right:
        return "unreadable" if left else "undecided"
    undecided = False
    for one in left:
        for two in right:
            try:
                if same(one, two, leeway):
                    return "equal"
            except Undecided:
                undecided = True
    if undecided:
        return "undecided"
    several = ("list", "either", "set")
    return "hedged" if right[0].op in several and left[0].op not in several else "different"


# --- choices ----------------------------------------------------------------------------------------------------------
def _judge_choice(alternative: str, gold: Gold, answer: str) -> str:
    """A letter, alone or before its text; or, where the choices are known, the text of the right one."""
    letter = _letter(alternative, gold)
    match = _CHOICE_IN_ANSWER.fullmatch(
        _TEXT_GROUP.sub(r" \1 ", normalise(answer)).replace("$", "").replace("\\ ", " ").strip(" .")
    )
    index = ord(letter) - ord("A") if letter else -1
    content = gold.choices[index] if 0 <= index < len(gold.choices) else ""
    leeway = Leeway(gold.tolerance)
    if match and letter:
        rest = match[2].strip()
        if match[1].upper() != letter or (rest and not rest[0].isalnum() and rest[0] not in "\\({-.["):
            return "different"
        if rest and content:
            return _judge_value(content, _type_of(content), leeway, rest)
        return "hedged" if _TAKEN_BACK.search(bare(rest)) else "equal"
    if not content:
        return "different"
    return _judge_value(content, _type_of(content), leeway, answer)


def _letter(alternative: str, gold: Gold) -> str | None:
    match = _CHOICE.fullmatch(bare(alternative))
    if match:
        return match[1]
    matches = [i for i, choice in enumerate(gold.choices) if choice.strip() == alternative]
    return chr(ord("A") + matches[0]) if matches else None


# --- types ------------------------------------------------------------------------------------------------------------
_FORMS = {
    "list": "list", "either": "list", "set": "set", "union": "interval", "matrix": "matrix", "based": "base", "ratio": "ratio",
    "mixed": "mixed", "pct": "percent", "deg": "degrees", "unit": "unit", "fact": "integer",
}  # fmt: skip


@lru_cache(maxsize=20_000)
def _type_of(text: str) -> str:
    plain = bare(text)
    if _CHOICE.fullmatch(plain) and (plain[0] == "(" or "A" <= plain <= "H"):
        return "choice"
    if plain.lower() in _ANSWER_WORDS or _NO_ARITHMETIC.fullmatch(plain):
        return "text"
    forms = trees(text)
    if "\\text" in text and plain.isalpha() and not (forms and forms[0].op == "num"):
        return "text"
    if not forms:
        return "formula" if "\\" in _TEXT_GROUP.sub("", normalise(text)) else "text"
    return _node_type(forms[0])


def _node_type(node: Node) -> str:
    while node.op == "neg":
        node = node.args[0]
    if node.op == "num":
        written = node.args[1]
        return (
            "scientific"
            if "e" in written.lower() and written != "repeating"
            else "decimal"
            if "." in written
            else "integer"
        )
    if node.op in _FORMS:
        return _FORMS[node.op]
    if node.op == "tuple":
        return "interval" if "infty" in constants(node) or node.args[:2] != ("(", ")") else "tuple"
    if node.op == "rel":
        return "equation" if set(node.args[0]) <= {"=", "approx"} else "inequality"
    if symbols(node) or contains(node, ("fn", "binom", "floor", "ceil")):
        return "expression"
    if contains(node, ("root",)):
        return "radical"
    if "i" in constants(node):
        return "complex"
    if "pi" in constants(node):
        return "pi"
    power = node.args[-1] if node.op == "mul" else node
    if power.op == "pow" and power.args[0].op == "num" and power.args[0].args[0] == 10:
        return "scientific"
    return "fraction" if node.op == "div" else "arithmetic"


# --- texts ------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=20_000)
def trees(text: str) -> tuple[Node, ...]:
    """How a text can be read: `1,234` is a number or a list. Empty when it cannot be."""
    clean = normalise(text)
    lead = _LEAD.match(clean)
    clean = clean[lead.end() :] if lead else clean
    readings = [clean if _DIGIT.search(clean) else _NUMBER_WORDS.get(bare(clean).lower(), clean)]
    if _THOUSANDS.search(clean) and not any(opening in clean for opening in ("(", "[", "\\{")):
        readings.insert(0, _THOUSANDS.sub(lambda m: m[0].replace(",", ""), clean))
    found = []
    for reading in readings:
        try:
            found.append(parse(reading))
        except Unreadable:
            continue
    return tuple(found)


def bare(text: str) -> str:
    """Without text commands, braces, dollars and outer punctuation."""
    return _BARE.sub(" ", _TEXT_COMMAND.sub("", normalise(text))).strip().strip(".").strip()


def _is_wordy(text: str) -> bool:
    """Only letters and spaces, three or more letters together: rather words than a product of symbols."""
    return _LETTERS_ONLY.fullmatch(_TEXT_GROUP.sub(r"\1", text).strip()) is not None


def _is_turned(gold: str, answer: str) -> bool:
    """The letters of a name (UK, 16 GB) in another order, which a product of symbols would not mind."""
    name, other = (form.fullmatch(bare(text)) for form, text in ((_NAME, gold), (_SPELLED, answer)))
    if not name or not other:
        return False
    theirs = other[1].replace(" ", "")
    return name[1] != theirs and sorted(name[1]) == sorted(theirs)


def _words(text: str) -> tuple[str, ...]:
    """The words and the signs of arithmetic, without case, punctuation and a leading article."""
    words = _WORD.findall(_CLOCK.sub(r"\1m ", bare(text).lower()))
    return tuple(words[1:] if words[:1] in (["the"], ["a"], ["an"]) and len(words[-1]) > 2 else words)


def _same_words(gold: str, answer: str) -> bool:
    """The same words in the same order; letters that name options (A, C and F) in any order."""
    ours, theirs = _words(gold), _words(answer)
    if ours and _SEPARATED.search(gold) and all(len(word) == 1 or word == "and" for word in ours):
        return sorted(w for w in ours if w != "and") == sorted(w for w in theirs if w != "and")
    return bool(ours) and ours == theirs


def _plain_value(text: str) -> tuple[int, str]:
    """A plain number as its whole part and its decimals, both without idle zeros; -0.5 and 0.5 differ in the sign."""
    whole, _, decimals = text.lstrip("-").partition(".")
    decimals = decimals.rstrip("0")
    return (-int(whole) if text[0] == "-" else int(whole)), (
        text[0] == "-" and int(whole) == 0 and bool(decimals)
    ) * "-" + decimals


@lru_cache(maxsize=20_000)
def _squeezed(text: str) -> str:
    """Without spacing commands, and white space only where it parts two digits or letters."""
    return _IDLE.sub("", _SPACING.sub(" ", normalise(text)))
