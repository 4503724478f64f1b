"""A gold that is a value or a text, and the content of a box, to an outcome."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from itertools import product
from math import gcd

from gmpo_vl.verify import labels, words
from gmpo_vl.verify.equality import same
from gmpo_vl.verify.labels import Labelled, labelled
from gmpo_vl.verify.measures import compass, ends, is_range, same_time, time_of_day
from gmpo_vl.verify.normalise import normalise
from gmpo_vl.verify.products import CASELESS, are_products, is_turned, is_wordy, same_but_for_case
from gmpo_vl.verify.quantities import EXACT, Leeway, Undecided
from gmpo_vl.verify.reading import PLAIN_NUMBER, as_measure, gold_trees, more_trees, trees
from gmpo_vl.verify.regions import speaks_of_region
from gmpo_vl.verify.tree import Node, substituted, sym
from gmpo_vl.verify.units import unit_of

_ANSWER_WORDS = frozenset("yes no true false none even odd".split())  # in any case; no products of symbols
_APPLIED = re.compile(r"O\(.+\)|[A-Za-z]\(\\?[A-Za-z][^()+,=-]*\)")  # O(n), f(x)
CHOICE = re.compile(r"\(?([A-Z])\)?")
# Dates, telephone numbers and scores: 12/05/2020, 555-1234, 21-14.
_NO_ARITHMETIC = re.compile(r"\d{1,4}([-/])\d{1,2}\1\d{2,4}|\d+-\d+(?:-\d+)*")
# Numbers of a text, as `normalise` writes them, with sign, unit or currency: 24, $5, 50%, 12 km, -5 °C, 2½,
# 1.5 million. Not 5th, 3d.
_FRACTION = r"(?:\\frac\{\d+\}\{\d+\}|\d+/\d+)"
_AMOUNT = re.compile(
    rf"-?(?:\\?\$ ?)?(?:\d[\d,]*(?:\.\d+)?(?:\\frac\{{\d+\}}\{{\d+\}}| {_FRACTION})?|{_FRACTION})"
    r"(?: ?%|°| ?\^\{\\circ\} ?[CF]?| [A-Za-z/]+(?:\^?[23])?)?"
)
_AMOUNTS = ("integer", "decimal", "unit", "percent", "degrees", "fraction", "mixed")
_SIZED = re.compile(r".*\d (?:thousand|million|billion|trillion|[gmshL])")  # sums and products to `type_of`
_CODE = re.compile(r"0\d+")  # 007, the postal code 01002
_ORDINAL = re.compile(r"\d[\s^]*(?:st|nd|rd|th)\b", re.IGNORECASE)
_OPERATION = re.compile(r"[\d)}] ?(?:[-+*/^]|\\(?:times|cdot|div)(?![a-z])) ?[\d({\\]|\\sqrt")
_QUOTIENT = re.compile(r"-?(\d{1,9})/(\d{1,9})")
_CIRCLE = re.compile(r" ?\^ ?\{? ?\\circ ?\}?")
_DIGITS = re.compile(r"\d+")
# A word, a colon, or a text command around everything: what may be more than a bare value.
_LABEL_LIKE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3}|: |^\\(?:text|mathrm|mbox)|[\u4e00-\u9fff]")
_ROW = re.compile(r"[\s,;()\[\]]+")
_OF_VARIABLE = re.compile(r"([a-zA-Z])\(([k-z])\)=")  # P(A) and f(a) are values
_SEVERAL = ("list", "either", "set")
_JOINTS = {"and": "and", "land": "and", "wedge": "and", "or": "or", "lor": "or", "vee": "or"}
_JOINT = re.compile(rf"\b(?:{'|'.join(_JOINTS)})\b")


def judge_value(alternative: str, kind: str, leeway: Leeway, answer: str) -> str:
    """The outcome of an answer without marks around it (normalise.unmarked) against one gold."""
    if answer == alternative:
        return "equal"
    if kind == "text":
        alternative, answer = words.in_digits(alternative), words.in_digits(answer)
        if _CODE.fullmatch(words.bare(alternative)):
            said = words.without_lead(answer)
            return "equal" if words.same_words(alternative, said) else "different"
    plain = PLAIN_NUMBER.fullmatch(alternative) is not None
    if plain and leeway == EXACT and PLAIN_NUMBER.fullmatch(answer):
        return "equal" if Decimal(answer) == Decimal(alternative) else "different"  # most answers
    ours, symbol = ((), "") if plain else _names_of(alternative)
    if ours:
        return _judge_labelled(ours, leeway, answer)
    if symbol and any(labels.denies(symbol, part.label) for part in labelled(answer)):
        return "different"  # the length of CD is no AB
    outcome = _judge_unlabelled(alternative, kind, leeway, answer, plain)
    if outcome == "equal" or kind == "text" or not (_LABEL_LIKE.search(answer) or ": " in alternative):
        return outcome
    return _without_label(alternative, kind, leeway, answer) or outcome


def _judge_unlabelled(alternative: str, kind: str, leeway: Leeway, answer: str, plain: bool) -> str:
    """plain: the gold is a number in digits."""
    if plain and ":" not in answer and "m" not in answer and "clock" not in answer and kind != "text":
        return _judge_trees(alternative, leeway, words.parted(answer)[0])
    if words.squeezed(alternative) == words.squeezed(answer) or same_time(alternative, answer):
        return "equal"
    if words.same_items(alternative, answer):
        return "equal"
    if any(same_but_for_case(alternative, text) for text in (answer, words.without_lead(answer))):
        return "equal"
    if "(" not in answer and _APPLIED.fullmatch(words.squeezed(alternative)):
        return "different"  # On is no O(n)
    if (ours := compass(alternative)) and (theirs := compass(answer)):
        return "equal" if ours == theirs else "different"  # N 37° E is no product
    if any(":0" in text and (time := time_of_day(text)) and time.minute for text in (alternative, answer)):
        return "different"  # 3:01 is no ratio
    if is_range(alternative, answer):
        return _judge_range(alternative, leeway, answer)
    if alternative[0] == "[" and alternative.count(",") > 1 and _same_row(alternative, answer):
        return "equal"
    (ours, condition), (theirs, other) = words.parted(alternative), words.parted(answer)
    if kind == "text" and ours != alternative:  # f(x) = 2x for all x
        kind = type_of(ours)
    # east is not seat, though e·a·s·t is s·e·a·t
    said = words.without_lead(normalise(answer))
    wordy = map(is_wordy, map(words.as_spoken, (answer, said)))  # It's day, Stop!, men's
    are_words = is_wordy(words.as_spoken(alternative)) and not are_products(alternative)
    if kind == "text" or (are_words and any(wordy)):
        same_text = any(words.same_words(alternative, text) for text in (answer, said))
        if same_text or _same_row(alternative, answer):
            return "equal"
        if not _is_amount(alternative) or (kind == "text" and not _says_amount(alternative, answer)):
            return "different"
    if is_turned(alternative, answer) and not _same_unit(alternative, answer):
        return "different"
    if condition and other and condition != other:
        return "different"
    if ours != alternative and not condition and words.limits(other):
        return "different"
    return _judge_trees(ours, leeway, theirs)


def _is_amount(text: str) -> bool:
    """Whether a text is a number with its sign, unit or currency. A quotient is one below 1 that cannot be
    reduced; others are dates, scores and times of music: 12/5, 4/2, 6/8.
    """
    if not _AMOUNT.fullmatch(normalise(text)):
        return False
    if quotient := _QUOTIENT.fullmatch(text):
        above, under = map(int, quotient.groups())
        return 0 < above < under and gcd(above, under) == 1
    return type_of(text) in _AMOUNTS or _SIZED.fullmatch(text) is not None


def _says_amount(gold: str, answer: str) -> bool:
    """Whether an answer in words says an amount: no place in an order (7th), no sum that is left to do (3+4,
    14/2; but 3+4=7). A fraction is one for a gold that is no whole number.
    """
    said = normalise(answer)
    if _ORDINAL.search(words.bare(answer)) and not _ORDINAL.search(words.bare(gold)):
        return False
    kinds = type_of(gold), type_of(answer)
    if kinds[1] in ("fraction", "mixed"):
        same = _DIGITS.findall(normalise(gold)) == _DIGITS.findall(said)
        return kinds[0] != "integer" and (kinds[0] != "fraction" or same)
    return "=" in said or kinds[1] == "scientific" or not _OPERATION.search(_CIRCLE.sub("", said))


def _same_unit(gold: str, answer: str) -> bool:
    """litres and liters."""
    one, two = (unit_of(words.bare(text).split()[-1].rstrip("."), True) for text in (gold, answer))
    return one is not None and one == two


# --- labels ---------------------------------------------------------------------------------------------
@lru_cache(maxsize=20_000)
def _names_of(gold: str) -> tuple[tuple[Labelled, ...], str]:
    """The labelled values of a gold, none where one is a mere text (`Statement A is true`); and the symbol
    that an equation gives a value to ("" without one).
    """
    found, symbol = labelled(gold), labels.symbol_of(gold)
    are_values = all(_is_value(part.value) for part in found)
    return found if are_values else (), symbol[0] if symbol else ""


def _is_value(text: str) -> bool:
    if words.named_set(words.bare(text).lower()):
        return True
    return type_of(text) not in ("text", "choice", "formula") and not is_wordy(text)


def _judge_labelled(ours: tuple[Labelled, ...], leeway: Leeway, answer: str) -> str:
    """The outcome against a gold with labels (the rules are those of labels.py)."""
    theirs = labelled(answer)
    if len(ours) == 1:
        if not theirs:
            return _judge_part(ours[0], leeway, answer)
        agree = len(theirs) == 1 and labels.agree(ours[0].label, theirs[0].label)
        return _judge_part(ours[0], leeway, theirs[0].value) if agree else "different"
    if not theirs:
        theirs = tuple(Labelled(*part) for part in zip([part.label for part in ours], labels.items(answer)))
        if len(labels.items(answer)) != len(ours):
            return "different"
    left = list(theirs)
    for part in ours:
        named = [other for other in left if labels.agree(part.label, other.label)]
        right = [other for other in named if _judge_part(part, leeway, other.value) == "equal"]
        if not right:
            return "different"
        left.remove(right[0])
    return "different" if left else "equal"


def _judge_part(gold: Labelled, leeway: Leeway, answer: str) -> str:
    """One value; a symbol before the answer's must be able to stand for the label (A for area)."""
    named, read = labels.symbol_of(answer), gold_trees(gold.value)
    if named and not all(tree.symbols for tree in read):
        if not labels.names(named[0], gold.label):
            return "different"
        answer = named[1]
    return judge_value(gold.value, type_of(gold.value), leeway, answer)


def _without_label(gold: str, kind: str, leeway: Leeway, answer: str) -> str | None:
    """The outcome where the answer alone has a label, or is set as text, or has colons after its names; None
    for other answers.
    """
    if inner := words.set_as_text(answer):
        return judge_value(gold, kind, leeway, inner)
    equated = labels.with_equals(gold), labels.with_equals(answer)
    if equated != (gold, answer):
        return judge_value(equated[0], type_of(equated[0]), leeway, equated[1])
    if labels.same_words_listed(gold, answer):
        return "equal"
    found = labelled(answer)
    if len(found) != 1:
        return None
    symbol = _names_of(gold)[1]
    if symbol and not labels.symbol_of(found[0].value) and not labels.names(symbol, found[0].label):
        return "different"
    return judge_value(gold, kind, leeway, found[0].value)


def _in_our_variable(gold: str, answer: str) -> tuple[Node, Node] | None:
    """The answer's variable and the gold's, for `f(n) = n` against `f(x) = x`; f(x) is read as a product."""
    if "=" not in gold or "(" not in gold:
        return None
    ours, theirs = _OF_VARIABLE.match(words.squeezed(gold)), _OF_VARIABLE.match(words.squeezed(answer))
    if not ours or not theirs or ours[1] != theirs[1] or ours[2] == theirs[2]:
        return None
    return sym(theirs[2]), sym(ours[2])


def _judge_trees(gold: str, leeway: Leeway, answer: str) -> str:
    left, right = gold_trees(gold), trees(answer)
    renamed = _in_our_variable(gold, answer)
    if not left:
        return "undecided"
    is_list = left[0].op in _SEVERAL and not _is_joined_by_either(left[0].args + _items(right))
    if is_list and (outcome := _joined_otherwise(gold, answer)):
        return outcome
    undecided = False
    measured = "unit" in (left[0].op, left[-1].op)
    looks = (trees, more_trees, as_measure) if measured else (trees, more_trees)
    for found in looks:  # a second look at the text only where the first one is not enough
        for one, two in product(left, found(answer)):
            if renamed and two.symbols.isdisjoint(renamed[1].args):  # f(y) = x is no f(x) = x
                two = substituted(two, *renamed)
            try:
                if _same(one, two, leeway):
                    return "equal"
            except Undecided:
                undecided = True
    if undecided:
        return "undecided"
    if not right:
        return "unreadable"
    return "hedged" if right[0].op in _SEVERAL and left[0].op not in _SEVERAL else "different"


def _joined_otherwise(gold: str, answer: str) -> str | None:
    """The outcome of `3 or 4` against `3 and 4`, and of the other way round; None for other texts."""
    ours, theirs = ({_JOINTS[joint] for joint in _JOINT.findall(normalise(text))} for text in (gold, answer))
    if ours | theirs != {"and", "or"} or ours & theirs or not (ours and theirs):
        return None
    return "hedged" if "or" in theirs else "different"


def _is_joined_by_either(items: tuple[Node, ...]) -> bool:
    """Whether "and" and "or" say the same between them: between the parts of a set of numbers, and between
    the values of one name (`x = 3 and x = 4` lists the solutions of an equation).
    """
    names = {item.args[1][0] for item in items if item.op == "rel"}
    return len(names) == 1 or any(speaks_of_region(item) or _node_type(item) == "interval" for item in items)


def _items(found: tuple[Node, ...]) -> tuple[Node, ...]:
    return found[0].args if found and found[0].op in _SEVERAL else ()


def _same(gold: Node, answer: Node, leeway: Leeway) -> bool:
    """Also an answer said twice (`48^\\circ or 48`): every item is the gold."""
    if gold.op == answer.op == "num" and leeway == EXACT:
        return gold.args[0] == answer.args[0]
    if same(gold, answer, leeway):
        return True
    repeats = answer.op == "either" and gold.op not in _SEVERAL
    return repeats and all(same(gold, item, leeway) for item in answer.args)


def _judge_range(gold: str, leeway: Leeway, answer: str) -> str:
    """Both ends of a range, one by one."""
    ours, theirs = ends(gold), ends(answer)
    if not ours or not theirs:
        return "different"
    outcomes = [judge_value(one, type_of(one), leeway, two) for one, two in zip(ours, theirs)]
    return next((outcome for outcome in outcomes if outcome != "equal"), "equal")


def _same_row(gold: str, answer: str) -> bool:
    """`5 2 1`, numbers side by side, with commas or in brackets: the same numbers in the same order."""
    ours, theirs = (_ROW.sub(" ", text).split() for text in (gold, answer))
    if len(ours) < 2 or len(ours) != len(theirs) or not all(map(PLAIN_NUMBER.fullmatch, ours + theirs)):
        return False
    return all(Decimal(one) == Decimal(two) for one, two in zip(ours, theirs))


# --- types ----------------------------------------------------------------------------------------------
_FORMS = {
    "list": "list", "either": "list", "set": "set", "union": "interval", "matrix": "matrix", "based": "base",
    "ratio": "ratio", "numbers": "interval", "cap": "interval", "minus": "interval", "where": "interval",
    "both": "inequality", "mixed": "mixed", "pct": "percent", "deg": "degrees", "unit": "unit",
    "fact": "integer",
}  # fmt: skip


def is_letter(text: str) -> bool:
    """A letter that names an option without being told so: A to H, or any in brackets."""
    plain = words.bare(text)
    return CHOICE.fullmatch(plain) is not None and (plain[0] == "(" or "A" <= plain <= "H")


@lru_cache(maxsize=20_000)
def type_of(text: str) -> str:
    """What a gold's text is read as: `integer`, `fraction`, `interval`, `choice`, `text`, ..."""
    if PLAIN_NUMBER.fullmatch(text):
        return "decimal" if "." in text else "integer"
    plain = words.bare(text)
    if is_letter(text):
        return "choice"
    if plain.lower() in _ANSWER_WORDS or _NO_ARITHMETIC.fullmatch(plain):
        return "text"
    if plain.lower() in CASELESS and plain[0].isupper():  # at, by and ct may be products of symbols
        return "text"
    if is_range(text, text):
        return "range"
    forms = trees(text)
    if "\\text" in text and plain.isalpha() and not (forms and forms[0].op == "num"):
        return "text"
    if not forms:
        return "formula" if "\\" in words.TEXT_GROUP.sub("", normalise(text)) else "text"
    return _node_type(forms[0])


def _node_type(node: Node) -> str:
    while node.op == "neg":
        node = node.args[0]
    if node.op == "num":
        written = node.args[1]
        if "e" in written.lower() and written != "repeating":
            return "scientific"
        return "decimal" if "." in written else "integer"
    if node.op in _FORMS:
        return _FORMS[node.op]
    if node.op == "tuple":
        return "interval" if "infty" in node.summary.constants or node.args[:2] != ("(", ")") else "tuple"
    if node.op == "rel":
        return "equation" if set(node.args[0]) <= {"=", "approx"} else "inequality"
    if node.symbols or node.contains("fn", "binom", "floor", "ceil"):
        return "expression"
    if node.contains("root"):
        return "radical"
    if "i" in node.summary.constants:
        return "complex"
    if "pi" in node.summary.constants:
        return "pi"
    power = node.args[-1] if node.op == "mul" else node
    if power.op == "pow" and power.args[0].op == "num" and power.args[0].args[0] == 10:
        return "scientific"
    return "fraction" if node.op == "div" else "arithmetic"
