r"""How models really answer: the ways in which one right answer is written, and answers that are wrong.

A gold is reachable where a reward takes it in all of these forms, not in its own spelling alone. Every form
is a right answer for its gold beyond doubt; where a form could be read otherwise, it is left out. The forms
are texts for the place of the answer, `\boxed{}` or `<answer>`. They are written by rules of their own: a
verifier that is tested with its own rules would find nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from string import capwords

from gmpo_vl.data.answers import LETTERS
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.spellings import (
    Form,
    flat,
    inside,
    is_value,
    labelled,
    of_amount,
    of_box,
    of_inequality,
    of_list,
    of_measure,
    of_number,
    of_point,
)

MOST_ALTERNATIVES = 4  # of a gold, that forms are written of


def natural_forms(gold: Gold, kind: str | None = None) -> list[Form]:
    """Right answers for a gold, each text once, the gold's own spelling first.

    kind: what a reward reads golds as that bring no type of their own: a type, or "box" for the box
    [x1, y1, x2, y2] of a thing in a picture. No forms for CountDown, whose gold is a target and no answer.
    """
    if gold.type == "countdown":
        return []
    kind = gold.type or kind
    forms: Iterable[Form]
    if gold.choices:
        forms = _of_choices(gold, kind)
    elif kind == "list":
        forms = _of_items(gold.alternatives)
    else:
        texts = gold.alternatives[:MOST_ALTERNATIVES]
        forms = (form for text in texts for form in _of_text(text, kind))
    return _distinct(forms)


def wrong_forms(gold: Gold) -> list[Form]:
    """Wrong answers for a gold with choices: letter, letter with text and text of every other option; of
    options that are right together each one alone.
    """
    right = _right_options(gold) if gold.type != "countdown" else []
    if not right:
        return []
    letters = {LETTERS[i] for i in right}
    said = {_key(gold.choices[i]) for i in right} | {_key(letter) for letter in letters}
    forms = []
    if len(right) > 1 and _named_together(gold):
        forms = [Form(f"only option {letter}", letter) for letter in sorted(letters)]
    for letter, text in zip(LETTERS, gold.choices):
        if letter in letters:
            continue
        forms.append(Form(f"option {letter}", letter))
        if _key(text) not in said and not PICTURE.fullmatch(text.strip()):
            forms += [
                Form(f"option {letter} with its text", f"{letter}. {text}"),
                Form(f"text of option {letter}", text),
            ]
    return _distinct(forms)


def _of_items(items: Sequence[str]) -> Iterator[Form]:
    """Texts that are right together."""
    yield Form("with semicolons", "; ".join(items))
    yield Form("one a line", "\n".join(items))
    yield Form("in another order", "; ".join(reversed(items)))
    if not any(re.search(r"[,;&]|\band\b", item) for item in items):
        yield Form("with commas", ", ".join(items))
        if len(items) > 1:
            yield Form("with and", f"{', '.join(items[:-1])} and {items[-1]}")


def unreached(gold: Gold, judge: Callable[[str], bool]) -> list[Form]:
    """The forms of a gold that a judge of texts calls wrong; none for a gold that everybody can reach."""
    return [form for form in natural_forms(gold) if not judge(form.text)]


def _distinct(forms: Iterable[Form]) -> list[Form]:
    by_text: dict[str, Form] = {}
    for form in forms:
        if form.text.strip():
            by_text.setdefault(form.text, form)
    return list(by_text.values())


# --- options ------------------------------------------------------------------------------------------
PICTURE = re.compile(r"<image ?\d*>")  # an option that is a picture
_LETTER = re.compile(r"\(?([A-Z])[).]?")
_LATEX = re.compile(r"[\\${}%#&_^~]")
_SOME = r"\(?[A-{0}]\)?(?:(?:\s*[,;&]\s*|\s+and\s+|)\(?[A-{0}]\)?)+"
_SEVERAL = re.compile(_SOME.format("Z"))
_SEVERAL_OR_POINTS = re.compile(_SOME.format("J"))  # of a gold that is not called a choice


def _of_choices(gold: Gold, kind: str | None) -> Iterator[Form]:
    right = _right_options(gold)
    if len(right) > 1 and _named_together(gold):
        yield from _of_letters("".join(LETTERS[i] for i in right))
        texts = [gold.choices[i].strip() for i in right]
        if not any(PICTURE.fullmatch(text) or re.search("[,;]", text) for text in texts):
            yield Form("letters with texts", "; ".join(f"{LETTERS[i]}. {t}" for i, t in zip(right, texts)))
        return
    for i in right:
        letter, text = LETTERS[i], gold.choices[i].strip()
        yield from _of_letter(letter)
        if PICTURE.fullmatch(text):
            continue
        yield Form("letter with text", f"{letter}. {text}")
        yield Form("letter in brackets with text", f"({letter}) {text}")
        yield Form("letter in bold LaTeX with text", f"\\textbf{{({letter}) }}{text}")
        if not _LATEX.search(text):
            yield Form("letter and text as text", f"\\text{{{letter}. {text}}}")
            yield Form("letter in brackets and text as text", f"\\text{{({letter}) {text}}}")
        others = {_key(form.text) for j, t in enumerate(gold.choices) if j != i for form in _of_option(t)}
        if _key(letter) not in others:
            yield Form("small letter", letter.lower())
        others |= {_key(other) for other in LETTERS[: len(gold.choices)]}
        yield from (form for form in _of_option(text) if _key(form.text) not in others)
    if not right:  # the gold is none of its options
        for text in gold.alternatives[:MOST_ALTERNATIVES]:
            yield from _of_text(text, kind)


def _right_options(gold: Gold) -> list[int]:
    """Places of the right options: by letter, else by text."""
    number = min(len(gold.choices), len(LETTERS))
    letters = [match[1] for text in gold.alternatives if (match := _LETTER.fullmatch(text.strip()))]
    if _named_together(gold):
        letters = re.findall("[A-Z]", gold.alternatives[0])
    places = sorted({LETTERS.index(letter) for letter in letters})
    named = [i for i in places if i < number]
    texts = [i for i in range(number) if gold.choices[i].strip() in gold.alternatives]
    return [i for i in named if i in texts] or named or texts  # "D" and "E" may be a letter and its text


def _named_together(gold: Gold) -> bool:
    """Whether the gold is several letters that are right together (A, C)."""
    only, *others = (text.strip() for text in gold.alternatives)
    is_text = any(only == text.strip() for text in gold.choices)
    if others or is_text or not _SEVERAL.fullmatch(only):
        return False
    return set(re.findall("[A-Z]", only)) <= set(LETTERS[: len(gold.choices)])


def _of_letter(letter: str) -> Iterator[Form]:
    yield Form("letter", letter)
    yield Form("letter in brackets", f"({letter})")
    yield Form("letter and a full stop", f"{letter}.")
    yield Form("letter as text", f"\\text{{{letter}}}")
    yield Form("letter in brackets as text", f"\\text{{({letter})}}")
    yield Form("letter in bold", f"**{letter}**")
    yield Form("letter with a word", f"Option {letter}")
    yield Form("letter on a line of its own", f"\n{letter}\n")
    yield Form("letter in Chinese brackets", f"（{letter}）")
    yield Form("letter after 选", f"选{letter}")


def _of_letters(letters: str) -> Iterator[Form]:
    yield Form("letters", ", ".join(letters))
    yield Form("letters closed up", letters)
    yield Form("letters with and", " and ".join((", ".join(letters[:-1]), letters[-1])))
    yield Form("letters in brackets", ", ".join(f"({letter})" for letter in letters))
    yield Form("letters with Chinese marks", "，".join(letters))
    yield Form("letters with spaces", " ".join(letters))
    yield Form("small letters", ", ".join(letters.lower()))
    yield Form("letters closed up as text", f"\\text{{{letters}}}")


def _of_option(text: str) -> Iterator[Form]:
    """An option's text alone."""
    text = inside(text.strip())
    yield Form("text alone", text)
    yield Form("text in dollars", f"${text}$") if is_value(text) else Form("text alone", text)
    yield from of_measure(text)
    yield from _of_case(text)
    yield Form("text without its full stop", text.removesuffix("."))
    if re.fullmatch("[A-Za-z]{2}", text):  # the other options say that it is no symbol
        yield Form("short word in small letters", text.lower())


def _key(text: str) -> str:
    """What must differ in two texts that mean different things."""
    return re.sub(r"[\s()（）.。$*,]", "", flat(inside(text.strip())).casefold())


# --- texts without options ------------------------------------------------------------------------------
_WORDS = re.compile(r"(?=.*[A-Za-z]{3}|(?:No|Up|Go|On|Ox|It)\b)[A-Za-z][A-Za-z ,.'-]*", re.DOTALL)
# Words whose case says nothing: none that could be symbols (abc) or names of points (A D and B E).
_CASED = re.compile(r"A (?!and\b)[a-z]{3}|[A-Za-z][a-z]{3}|[A-Z][a-z]{1,2}\b|[a-z][aeiou][a-z]\b")
# Letters that may name something, whose case says something: Point A, AB, mL, abc.
_NAMES = re.compile(r"\b(?!a\b|I\b|A [a-z])[A-Za-z]\b|\b[A-Z]{2}|[a-z][A-Z]|\A(?!.*[A-Za-z]{4})")
_PLAIN_WORDS = re.compile(r"(?=.*[A-Za-z])[A-Za-z\d ,.'&-]+")
_KNOWN_WORD = re.compile(
    r"tv|up|no|go|on|ok|uk|us|ox|dvd|usb|bmw|kfc|gmc|nba|bbc|mri|[b-z]-[a-z]{3,}", re.IGNORECASE
)  # no symbols, though short or without vowels
_NUMBERS = "zero one two three four five six seven eight nine ten".split()
_SPOKEN = {word: str(n) for n, word in enumerate(_NUMBERS)} | {
    str(n): word for n, word in enumerate(_NUMBERS)
}
_FORMULA = re.compile(r"\$([^$]*\\[^$]*)\$")  # $5\sqrt{2}$ cm; dollars without LaTeX between may be money
_TEXT_ALONE = re.compile(r"\\(?:text|mathrm|textbf|mbox)\{([^{}]*)\}")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_LISTED_WORD = re.compile(r"(?!and |or )[a-z]{3,}(?: [a-z]{3,})*|[\u4e00-\u9fff]+", re.IGNORECASE)
_CHINESE_UNIT = re.compile(
    r"(.*[\d})π])\s*((?:平方|立方)?(?:毫米|厘米|分米|米|千米)|公里|海里|度|元|秒|分钟|小时|克|千克|升|毫升)"
)


def _of_text(text: str, kind: str | None) -> Iterator[Form]:
    """A gold without options. kind: its type."""
    yield Form("as the gold is written", text)
    inner = _FORMULA.sub(r"\1", inside(text))
    if group := _TEXT_ALONE.fullmatch(inner):
        inner = group[1].strip()
    if text != inner:
        yield Form("without dollars and text groups", inner)
    if kind == "box":  # of a thing in a picture
        yield from of_box(inner)
    elif kind in (None, "choice") and (forms := _of_named(inner, kind == "choice")):
        yield from forms
    elif kind != "text" and (found := _CHINESE_UNIT.fullmatch(inner)) and is_value(found[1]):
        yield Form("unit left out", found[1])
        yield Form("unit as text", f"{found[1]}\\text{{{found[2]}}}")
        yield from _with_marks(inner)
    elif kind == "text" or _WORDS.fullmatch(inner) or _KNOWN_WORD.fullmatch(inner) or _CHINESE.search(inner):
        yield from _of_words(inner, kind == "text")
        if kind == "text":
            yield from of_amount(inner)
    else:
        yield from _of_value(inner)
        yield from _with_marks(inner)


def _of_named(text: str, is_choice: bool) -> list[Form]:
    """Of a letter, or of letters that are right together. Side by side (AC) they may be the name of a side
    where the gold is not called a choice.
    """
    if (letter := _LETTER.fullmatch(text)) and (is_choice or letter[1] <= "H"):
        forms = list(_of_letter(letter[1]))
        return forms if is_choice else forms[:5]
    if (_SEVERAL if is_choice else _SEVERAL_OR_POINTS).fullmatch(text) and (is_choice or not text.isalpha()):
        letters = "".join(re.findall("[A-Z]", text))
        return [*_of_letters(letters), Form("letters with a slash", "/".join(letters))]
    return []


def _of_value(text: str) -> Iterator[Form]:
    label, value = labelled(text)
    if label:
        yield Form("label left out", value)
        if _WORDS.fullmatch(label) and text.startswith(label):
            yield Form("label as text", f"\\text{{{label}}}{text.removeprefix(label)}")
        if ":" in text:
            yield Form("label and a Chinese colon", f"{label}：{value}")
    elif is_value(text) and not re.search(r"[,(]", text.partition("\\")[0]):
        yield Form("a name in front", f"x = {text}")
        yield Form("equals sign in front", f"= {text}")
    yield from of_measure(value)
    yield from of_number(value)
    yield from of_point(text)
    yield from of_inequality(value)
    yield from of_list(value)


def _with_marks(text: str) -> Iterator[Form]:
    if "$" not in text and not re.search(r"(?<![\\A-Za-z])[A-Za-z]{3}", text):
        yield Form("in dollars", f"${text}$")
    if "*" not in text:
        yield Form("in bold", f"**{text}**")
    yield Form("on a line of its own", f"\n{text}\n")
    if text[-1:] not in (".", "。"):
        yield Form("with a full stop", f"{text}.")
        yield Form("with a Chinese full stop", f"{text}。")


def _of_words(text: str, is_text: bool) -> Iterator[Form]:
    """is_text: the gold is called one, so that its letters are no symbols."""
    yield from _of_case(text, is_text)
    if is_text and text.lower() in _SPOKEN:
        yield Form("number as a word" if text.isdecimal() else "number in digits", _SPOKEN[text.lower()])
    items = re.split(r"\s*[,，、]\s*", text)
    if len(items) > 2 and all(map(_LISTED_WORD.fullmatch, items)):
        joint = "和" if _CHINESE.search(text) else " and "
        yield Form("with and", ", ".join(items[:-1]) + joint + items[-1])
    yield Form("as text", f"\\text{{{text}}}")
    yield Form("in bold", f"**{text}**")
    yield Form("in quotes", f'"{text}"')
    if text[-1:] in (".", "。"):
        yield Form("without its full stop", text[:-1])
    else:
        yield Form("with a full stop", f"{text}.")
        yield Form("with a Chinese full stop", f"{text}。")


def _of_case(text: str, is_text: bool = False) -> Iterator[Form]:
    is_plain = is_text and _PLAIN_WORDS.fullmatch(text)
    if is_plain or _KNOWN_WORD.fullmatch(text) or (_WORDS.fullmatch(text) and not _NAMES.search(text)):
        if re.search("[aeiou]", text, re.IGNORECASE):  # not Bmw
            yield Form("as in a title", capwords(text))
        yield Form("in capitals", text.upper())
        yield Form("in small letters", text.lower())
    elif _WORDS.fullmatch(text) and _CASED.match(text):
        first = text[0].lower() if text[0].isupper() else text[0].upper()
        yield Form("first letter in the other case", first + text[1:])
        if text[1:].islower():
            yield Form("in capitals", text.upper())
