"""What a text says its answer to be in words: `Answer: 12 cm`, `so the correct option is C.`, `故选：C`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gmpo_vl.data.letters import folded

_RIGHT = r"(?:(?:correct|right|final|best)\s+)"
_NAMED = rf"(?:{_RIGHT}*(?:answer|ans\b\.?)|{_RIGHT}+(?:option|choice)(?:\s+letter)?)"
_LEAD = re.compile(
    rf"(?<![A-Za-z]){_NAMED}(?:\s*(?:\*\*)?\s*[:：=]|\s+[-–—]\s)\s*"
    rf"|\b{_NAMED}(?:\s+to\s+th(?:e|is)\s+\w+)?\s+(?:is|are|would be|should be|must be)\b\s*[:：]?\s*"
    r"|(?<![A-Za-z])(?=(?:option|choice)\s+\(?[A-Z]\)?\s+is\s+(?:the\s+)?(?:correct|right)\b)"
    rf"|^[ \t]*(?:#{{1,6}}[ \t]*|\*\*|\[)?{_NAMED}[ \t]*(?:\*\*|\])?[ \t]*\n\s*"  # a heading
    r"|(?:故|应|所以)选(?:择|项[是为])?\s?[:：]?\s*|(?:正确)?(?:答案(?:选项)?|选项)\s?[是为:：]\s?[:：]?\s*",
    re.IGNORECASE | re.MULTILINE,
)
# How a sentence goes on that is about the answer, and does not say it.
_NO_ANSWER = re.compile(
    r"(?:not|that|because|in|on|as|by|based|given|shown|found|obtained|calculated|wrong|incorrect|correct|clear"
    r"|unclear|above|below|therefore)\b",
    re.IGNORECASE,
)
# What follows an answer and is none of it: its reason, and that it is right.
_REASON = re.compile(
    r"(?:,?\s+(?:(?:which|because|since|where)\b|is\s+(?:the\s+)?(?:correct|right)\b)"
    r"|[\s,，;；:：(（]*(?:因为|由于|理由|原因|解释|解析)).*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!。]\s+(?=\S)|。")
_SHORTENED = re.compile(r"(?:^|\s)(?:St|Mt|Mr|Mrs|Ms|Dr|Jr|Sr|No|vs|[a-z])$")  # no sentence ends behind it
_FEW_WORDS = 2  # behind a full stop, that are no sentence: J. Smith, B. red
_LETTER = re.compile(r"(?:option|choice)\s+(\(?[A-Z]\)?)", re.IGNORECASE)
_LONGEST = 200


def stated_answer(text: str) -> str | None:
    """What the text states at its end, or every time that it states one; None where it states none or two."""
    found = list(_stated(text))
    if not found:
        return None
    last, is_end = found[-1]
    return last if is_end or len({folded(value) for value, _ in found}) == 1 else None


def _stated(text: str) -> Iterator[tuple[str, bool]]:
    """(what is stated, whether the text ends with it), in order."""
    leads = list(_LEAD.finditer(text))
    for lead, end in zip(leads, [*(m.start() for m in leads[1:]), len(text)]):
        line = text[lead.end() : end].partition("\n")[0]
        value = _without_marks(_REASON.sub("", _first_sentence(line.strip())))
        if value and len(value) <= _LONGEST and not _NO_ANSWER.match(value):
            yield value, not text[lead.end() :].strip()[len(line.strip()) :] and _ends(line, value)


def _ends(line: str, value: str) -> bool:
    return line.rstrip(" .。!*_`").endswith(value)


def _first_sentence(line: str) -> str:
    for end in _SENTENCE_END.finditer(line):
        before, behind = line[: end.start()], line[end.end() :]
        is_chinese = end[0].startswith("。")  # which shortens nothing
        if is_chinese or (not _SHORTENED.search(before) and len(behind.split()) > _FEW_WORDS):
            return before
    return line


def _without_marks(text: str) -> str:
    """Without Markdown around it, the full stop behind it, and the word option before a letter."""
    text = text.strip().strip("*_`").strip()
    if not text.endswith(".."):
        text = text.rstrip(".。!").strip().strip("*_`").strip()
    return letter[1] if (letter := _LETTER.fullmatch(text)) else text
