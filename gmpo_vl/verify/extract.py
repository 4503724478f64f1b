r"""Where the answer stands in a response. Every scan is linear and bounded; nothing here backtracks.

The rule: the last `\boxed{}` counts, and it must be complete. A box that is cut off or empty scores 0; there
is no falling back to an earlier one. Boxes side by side (`\boxed{3} or \boxed{5}`) are one answer with
several items.

An empty box (or tag) is no answer but a mention of the form in a sentence like "I put it in \boxed{} as
asked": a word such as in or within leads to it, it is said that something was put there or asked for, and
all words from the answer's box to the end are about the form (_ABOUT_THE_FORM). So no quantity, number, sign,
doubt or further step can stand after that box. Any other empty box is an empty answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from gmpo_vl.data.boxes import MAX_ANSWER, box_at, last_start
from gmpo_vl.data.stated import stated_answer
from gmpo_vl.verify.json_answers import answer_of_json

MAX_BOXES = 16  # boxes side by side
# What may stand between two boxes that belong together; anything else means that the last box is a new
# answer.
_JOINT = re.compile(
    r"(?:\s|[$.,;:()*{}/|&=+<>~#_?\[\]-]|\\[a-zA-Z]+|\\[^a-zA-Z]"
    r"|\b(?:or|and|also|alternatively|maybe|possibly|perhaps|either|the|answer|is|are|it|could|might|be"
    r"|option"
    r"|else|otherwise|but|vs|versus|nor|if\s+(?:wrong|not))\b"
    r"|\b(?:[A-J]|\d{1,2})(?=[:.)]))*",
    re.IGNORECASE,
)
# The value before a box in a tag: 3 or \boxed{4}.
_OTHER = re.compile(r"([^\s$]+)\s*\$?\s*(?:,\s*)?\b(?:and/or|or(?:\s+else)?|and)\b[\s$:(*]*\Z", re.IGNORECASE)
_JOINT_MAX = 60
_OPTION = re.compile(r"(?:\\text\s?\{)?\(?[A-Z]\)?\.?\}?")
_TOGETHER = re.compile(r"(?:[\s$,;&*]|\\[,;: ]|\band\b)*")


_EMPTY = re.compile(r"\\(?:boxed|fbox)\s{0,8}\{(?:\s|\\[,;:! ]|\\?[lc]?dots|\.\.\.|…)*\}")
_EMPTY_TAG = re.compile(r"<answer>(?:\s|\.\.\.|…)*(?:</answer>|(?=[`\"']?\s*tags?\b))")
_LEADS_IN = re.compile(r"\b(?:in|inside|into|within|with|using|used?)\s[^.!\n]{0,40}\Z", re.IGNORECASE)
_FORM = re.compile(
    r"\b(?:(?:i|we|i['’]ve|is|was|been|have|has)\b[^.!\n]{0,40}\b(?:put|placed?|enclosed?|written|wrote"
    r"|wrapped|given|gave|provided|presented|expressed|shown|stated|formatted|boxed|used?|using)"
    r"|as (?:per|asked|requested|required|instructed|specified|needed)|format|form|notation|tags?)\b",
    re.IGNORECASE,
)
_OTHER_THAN_PROSE = re.compile(r"[^\W\d_]+(?:['’][a-z]+)?|[^\s.,;:!()\[\]$`\"'’“”*—–]")  # words, and signs
_ABOUT_THE_FORM = frozenset(
    """i i've i'm we it it's its this that the my our your you a an here above final answer answers result
    solution value response is was are be been being has have had as by per in inside into within using with
    use used put place placed enclose enclosed write written wrote wrap wrapped give given gave provided
    presented expressed shown stated formatted boxed box boxes format form notation style latex command
    environment required requested asked instructed specified needed instructions instruction request
    question problem prompt tag tags at end of for to and so single which""".split()
)
_MENTION_MAX = 300  # characters after the answer's box or tag
_ANSWER_LINE = re.compile(r"<answer>\s{0,8}:\s{0,8}(?:<<)?", re.IGNORECASE)  # as We-Math asks for
# What decoding may leave of a chat format, and a model's own marks around its answer, which GLM writes.
_END_OF_TURN = re.compile(r"(?:\s*<\|(?:im_end|endoftext|eot_id|end|user)\|>)+\s*\Z")
_BOX_TOKENS = re.compile(r"<\|begin_of_box\|>\s*(.*?)\s*<\|end_of_box\|>", re.DOTALL)
_LONGEST_LINE = 300  # characters of a response that is nothing but an answer
_LOOKED_AT = 4_000  # characters at a response's end, where an answer is stated


class Extracted(NamedTuple):
    """text: what stands in the box, None without one; problem: `no_answer`, `truncated` or `too_long`."""

    text: str | None
    problem: str | None = None


def last_box(response: str) -> Extracted:
    r"""The content of the last `\boxed{}`, or of the boxes side by side that end with it, as one text."""
    start = response.rfind("\\boxed{")
    if (
        start >= 0
        and response.find("box", start + 7) < 0
        and response.find("box", max(0, start - MAX_ANSWER), start) < 0
        and (box := box_at(response, start))
    ):  # one box, as in most responses
        return Extracted(box[0].strip()) if box[0].strip() else Extracted(None, "no_answer")
    response = _without_mention(response)
    start = last_start(response, len(response))
    if start < 0:
        return Extracted(None, "no_answer")
    box = box_at(response, start)
    if box is None:
        cut = len(response) - start <= MAX_ANSWER
        return Extracted(None, "truncated" if cut else "too_long")
    first, end = start, box[1]
    contents, joints = [box[0]], set()  # from the last one to the first
    for _ in range(MAX_BOXES):
        if response.find("box", max(0, first - MAX_ANSWER), first) < 0:  # far quicker than looking backwards
            break
        earlier = last_start(response, first)
        before = box_at(response, earlier) if earlier >= 0 else None
        if before is None:
            break
        if before[1] >= end:  # the earlier box encloses this one
            contents, first, end = [before[0]], earlier, before[1]
            continue
        joint = response[before[1] : first]
        if len(joint) > _JOINT_MAX or not _JOINT.fullmatch(joint):
            break
        contents.append(before[0])
        joints.add(joint.strip(" $"))
        first = earlier
    texts = dict.fromkeys([_unwrap(content).strip() for content in reversed(contents)])
    if not _unwrap(contents[0]).strip():
        return Extracted(None, "no_answer")
    texts.pop("", None)  # an empty box before the one that answers
    text = (" = " if joints == {"="} else ", " if _are_options(texts, joints) else " or ").join(texts)
    return Extracted(text) if text.strip() else Extracted(None, "no_answer")


def _are_options(texts: Iterable[str], joints: Iterable[str]) -> bool:
    """Whether boxes side by side name options that are right together: `\\boxed{A}, \\boxed{C}`."""
    return all(map(_OPTION.fullmatch, texts)) and all(map(_TOGETHER.fullmatch, joints))


def _without_mention(response: str) -> str:
    """The response up to the box that answers, where only a mention of the form follows it (see the top)."""
    start = max(response.rfind("\\boxed"), response.rfind("\\fbox"))
    empty = _EMPTY.match(response, start) if start >= 0 else None
    if not empty:
        return response
    earlier = last_start(response, start)
    box = box_at(response, earlier) if earlier >= 0 else None
    if box is None or not box[0].strip():
        return response
    return response[: box[1]] if _is_mention(response[box[1] : start], response[empty.end() :]) else response


def _is_mention(before: str, after: str) -> bool:
    """Whether an empty box or tag is mentioned: before and after are all that the response says around it."""
    said = f"{before} {after}"
    if len(said) > _MENTION_MAX or not _LEADS_IN.search(before) or not _FORM.search(said):
        return False
    return _ABOUT_THE_FORM.issuperset(_OTHER_THAN_PROSE.findall(said.lower().replace("’", "'")))


def answer_tag(response: str) -> Extracted:
    """The content of the last `<answer>...</answer>` (the r1v form); a box inside it is unwrapped.

    As with boxes, tags side by side are one answer with several items, and so are a value and a box joined by
    "or"; an empty tag may be a mention of the form.
    """
    start = response.rfind("<answer>")
    earlier_end = response.rfind("</answer>", 0, max(start, 0)) + len("</answer>")
    empty = _EMPTY_TAG.match(response, start) if earlier_end >= len("</answer>") else None
    if empty and _is_mention(response[earlier_end:start], response[empty.end() :]):
        response = response[:earlier_end]
        start = response.rfind("<answer>")
    if start < 0:
        return Extracted(None, "no_answer")
    end = response.find("</answer>", start)
    if end < 0:
        return Extracted(None, "truncated")
    last = _in_tag(response[start + len("<answer>") : end].strip())
    contents, first = [last.text], start
    while last.text and len(contents) < MAX_BOXES:
        before_end = response.rfind("</answer>", max(0, first - MAX_ANSWER), first)
        before = response.rfind("<answer>", max(0, before_end - MAX_ANSWER), before_end)
        joint = response[before_end + len("</answer>") : first]
        if min(before_end, before) < 0 or len(joint) > _JOINT_MAX or not _JOINT.fullmatch(joint):
            break
        contents.append(_in_tag(response[before + len("<answer>") : before_end].strip()).text)
        first = before
    texts = dict.fromkeys(text for text in reversed(contents) if text)
    return Extracted(" or ".join(texts)) if len(texts) > 1 else last


def answer_anywhere(response: str) -> Extracted:
    """Where the prompt is not known to name a place: the last box; without one the last tag; without both
    the answer of a response that is a JSON object, what the response says that its answer is
    (data/stated.py), or a response of one line as it stands.

    What is thought before `</think>` states no answer, and a thought that does not end is a response that
    was cut off. `<Answer>:`, as We-Math asks for, is `Answer:`. GLM's box tokens are a box.
    """
    if "|>" in response:
        response = _END_OF_TURN.sub("", response)
        if marked := _BOX_TOKENS.findall(response):
            return Extracted(marked[-1]) if marked[-1] else Extracted(None, "no_answer")
    if last_start(response, len(response)) >= 0:
        return last_box(response)
    if ">" in response and _ANSWER_LINE.search(response):
        response = _ANSWER_LINE.sub("Answer: ", response).rstrip().removesuffix(">>")
    if "<answer>" in response:
        return answer_tag(response)
    said = response.rpartition("</think>")[2].strip()
    if said.startswith("<think>") or ("<think>" in said and "</think>" in response):
        return Extracted(None, "truncated")
    if (answer := answer_of_json(said)) is not None:
        return Extracted(answer)
    if (stated := stated_answer(said[-_LOOKED_AT:])) is not None:
        return Extracted(stated)
    is_line = 0 < len(said) <= _LONGEST_LINE and "\n" not in said
    return Extracted(said) if is_line else Extracted(None, "no_answer")


def _in_tag(text: str) -> Extracted:
    if len(text) > MAX_ANSWER:
        return Extracted(None, "too_long")
    if "boxed" not in text:
        return Extracted(text) if text else Extracted(None, "no_answer")
    box = last_box(text)
    other = _OTHER.search(text[: max(0, text.find("boxed") - 1)][-_JOINT_MAX:])
    return Extracted(f"{other[1]} or {box.text}") if other and box.text else box


def _unwrap(content: str) -> str:
    """Box commands inside a box are dropped; their braces stay as a group unless they hold everything."""
    if "box" not in content:
        return content
    inner = content.replace("\\boxed", "").replace("\\fbox", "").strip()
    return inner[1:-1] if inner[:1] == "{" and inner.count("{") == 1 and inner[-1] == "}" else inner
