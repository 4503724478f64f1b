"""The strict profile: gold and box to a verdict."""

from __future__ import annotations

import re
from functools import lru_cache

from gmpo_vl.verify.compare import Undecided, same
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.lex import MAX_CHARS, Unreadable
from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.parse import Node, parse

_THOUSANDS = re.compile(r"-?\s*(?:\\\$\s*)?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])")
_LEAD = re.compile(
    r"(?:the\s+|final\s+)*(?:answer|result|value)\s*(?:is|=|:)+\s*|(?:approximately|about|exactly|option|choice)\s+|\\approx\s*|\\sim\s*",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\(?([A-Z])\)?")
_CHOICE_IN_ANSWER = re.compile(r"(?:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)\s*(?:is|:)?\s*)?\(?([A-Za-z])(?:\)|[.:](?=\s|$)|$)\s*(.*)", re.DOTALL | re.IGNORECASE)  # fmt: skip
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|hbox|mathbf|operatorname)\s*(?=\{)")
_WORD = re.compile(r"[a-z0-9]+")


@lru_cache(maxsize=50_000)
def judge(gold: Gold, answer: str) -> str:
    """The outcome for the content of a box: `equal`, `different`, `hedged`, `undecided` or `too_long`."""
    if len(answer) > MAX_CHARS:
        return "too_long"
    outcomes = [_judge(alternative, gold, answer) for alternative in gold.alternatives]
    for outcome in ("equal", "undecided"):
        if outcome in outcomes:
            return outcome
    return outcomes[0]


def gold_type(gold: Gold) -> str:
    """What a gold is read as; the field of the verdict."""
    return gold.type or _type_of(gold.alternatives[0])


def _judge(alternative: str, gold: Gold, answer: str) -> str:
    kind = gold.type or _type_of(alternative)
    if kind == "choice" or gold.choices:
        return _judge_choice(alternative, gold, answer)
    return _judge_value(alternative, kind, gold.tolerance, answer)


def _judge_value(alternative: str, kind: str, tolerance: float | None, answer: str) -> str:
    if answer.strip() == alternative or _squeezed(alternative) == _squeezed(answer):
        return "equal"
    if kind == "text":
        return "equal" if _words(alternative) == _words(answer) else "different"
    left, right = trees(alternative), trees(answer)
    if not left or not right:
        return "undecided"
    undecided = False
    for one in left:
        for two in right:
            try:
                if same(one, two, tolerance):
                    return "equal"
            except Undecided:
                undecided = True
    if undecided:
        return "undecided"
    return "hedged" if right[0].op == "list" and left[0].op != "list" else "different"


def _judge_choice(alternative: str, gold: Gold, answer: str) -> str:
    """A letter, alone or before its text; or, where the choices are known, the text of the right one."""
    letter = _letter(alternative, gold)
    match = _CHOICE_IN_ANSWER.fullmatch(_bare(answer))
    index = ord(letter) - ord("A") if letter else -1
    content = gold.choices[index] if 0 <= index < len(gold.choices) else ""
    if match and letter:
        rest = _bare(match[2])
        if match[1].upper() != letter:
            return "different"
        if rest and content:
            return _judge_value(content, _type_of(content), gold.tolerance, rest)
        return "hedged" if re.search(r"\b[B-HJ-Z]\b|\bor\b", rest) else "equal"
    content = content or alternative
    return _judge_value(
        content, "text" if content == alternative else _type_of(content), gold.tolerance, answer
    )


def _letter(alternative: str, gold: Gold) -> str | None:
    match = _CHOICE.fullmatch(_bare(alternative))
    if match:
        return match[1]
    matches = [i for i, choice in enumerate(gold.choices) if choice.strip() == alternative]
    return chr(ord("A") + matches[0]) if matches else None


@lru_cache(maxsize=20_000)
def _type_of(text: str) -> str:
    bare = _bare(text)
    if _CHOICE.fullmatch(bare) and (bare[0] == "(" or "A" <= bare <= "H"):
        return "choice"
    forms = trees(text)
    if not forms:
        return "text"
    if "\\text" in text and bare.isalpha():
        return "text"
    return _node_type(forms[0])


_FORMS = {"list": "list", "set": "set", "union": "interval", "matrix": "matrix", "based": "base", "ratio": "ratio", "mixed": "mixed", "pct": "percent", "deg": "degrees", "unit": "unit", "fact": "integer"}  # fmt: skip


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
        infinite = any("infty" in repr(a) for a in node.args[2])
        return "interval" if infinite or node.args[:2] != ("(", ")") else "tuple"
    if node.op == "rel":
        return "equation" if set(node.args[0]) <= {"=", "approx"} else "inequality"
    text = repr(node)
    if "'sym'" in text:
        return "expression"
    if "'root'" in text:
        return "radical"
    if "'pi'" in text:
        return "pi"
    return "fraction" if node.op == "div" else "expression"


@lru_cache(maxsize=20_000)
def trees(text: str) -> tuple[Node, ...]:
    """How a text can be read: `1,234` is a number or a list. Empty when it cannot be."""
    clean = _LEAD.sub("", normalise(text), count=1) if _LEAD.match(normalise(text)) else normalise(text)
    readings = [clean]
    if _THOUSANDS.match(clean):
        readings.insert(0, _THOUSANDS.sub(lambda m: m[0].replace(",", ""), clean, count=1))
    found = []
    for reading in readings:
        try:
            found.append(parse(reading))
        except (Unreadable, RecursionError):
            continue
    return tuple(found)


def _bare(text: str) -> str:
    """Without text commands, braces, dollars and outer punctuation."""
    return re.sub(r"[{}$\\]|\s+", " ", _TEXT_COMMAND.sub("", normalise(text))).strip().strip(".").strip()


def _words(text: str) -> tuple[str, ...]:
    words = _WORD.findall(_bare(text).lower())
    return tuple(words[1:] if words[:1] in (["the"], ["a"], ["an"]) else words)


def _squeezed(text: str) -> str:
    """Without spacing commands, and white space only where it parts two digits or letters."""
    text = re.sub(r"\\[,;:! ]|\\left|\\right|\$", " ", normalise(text))
    return re.sub(r"\s+(?!\w)|(?<!\w)\s+", "", text).strip(".")
