"""What a mapping file's templates can do beside jinja's own filters.

{{ solution | final_answer }}        the answer that a worked solution marks, or states in words
{{ answers | given_by(3) }}          of several people's answers those that at least three gave
{{ messages[0].content | as_text }}  a chat message's text, with an <image> tag for each picture in it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gmpo_vl.data.boxes import box_at, last_start
from gmpo_vl.data.letters import folded
from gmpo_vl.data.stated import stated_answer
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.data.values import is_empty, parsed


def marked_answer(text: str) -> str | None:
    r"""What stands in the last `<answer>`, else in the last `\boxed{}`, else on the last line after `####`,
    else what the text states (`stated_answer`).

    None where there is nothing of these, nothing at the mark, or where the last one does not close. A box
    within the tag is opened, too. A `####` that more than its line follows is a heading of Markdown.
    """
    found: str | None = None
    if "<answer>" in text:
        inside, closed, _ = text.rpartition("<answer>")[2].partition("</answer>")
        found = _in_box(inside) if closed else None
    elif last_start(text, len(text)) >= 0:
        found = _in_box(text)
    else:
        before, _, line = text.rstrip().rpartition("####")
        is_mark = "####" in text and "\n" not in line and not before.endswith("#")
        found = line if is_mark else stated_answer(text)
    return (found or "").strip() or None


def _in_box(text: str) -> str | None:
    """What the last box holds, the text itself without a box; None for a box that does not close."""
    start = last_start(text, len(text))
    if start < 0:
        return text
    found = box_at(text, start)
    return found[0] if found else None


def final_answer(text: Any) -> str:
    """The marked answer. Raises ValueError where there is none."""
    found = marked_answer(str(text))
    if found is None:
        raise ValueError(
            "final_answer finds no <answer>, no \\boxed{} and no #### with an answer in the text, and no "
            "words such as `Answer: 3` or `the answer is 3` that state one"
        )
    return found


def as_text(content: Any) -> str:
    """A message's content: a text as it is, a list of parts joined. Raises ValueError for anything else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple) or not all(isinstance(part, Mapping | str) for part in content):
        raise ValueError(f"as_text takes a text or a list of parts, not {type(content).__name__}")
    return "".join(map(_part, content))


def _part(part: Mapping[str, Any] | str) -> str:
    if isinstance(part, str):
        return part
    kind, text = str(part.get("type") or "text"), part.get("text")
    if "image" in kind:  # image, image_url, input_image
        return IMAGE_TAG
    if isinstance(text, str) or (kind == "text" and "text" in part and text is None):
        return text or ""
    raise ValueError(f"as_text takes texts and pictures; a part of the type {kind!r} has {', '.join(part)}")


def given_by(answers: Any, count: int) -> list[str]:
    """The answers of a list that at least `count` people gave, the most frequent first, each as it is written
    first. Case and a final full stop do not count.

    answers: a list of texts, or of {"answer": ..., "answer_confidence": ...}, also as text. Answers that are
    empty or given with the confidence `no` are left out. Raises ValueError where none is left.
    """
    items = parsed(answers.strip()) if isinstance(answers, str) else answers
    if not isinstance(items, list | tuple):
        raise ValueError(f"given_by takes a list of answers, not {str(answers)[:60]!r}")
    spelled: dict[str, list[str]] = {}
    for text in given_texts(items):
        spelled.setdefault(folded(text), []).append(text)
    groups = sorted(spelled.values(), key=len, reverse=True)  # equal ones stay in their order
    if not groups or len(groups[0]) < count:
        most = f"; {groups[0][0][:60]!r} was, by {len(groups[0])}" if groups else ""
        raise ValueError(f"no answer was given by {count} of {len(items)} people{most}")
    return [group[0] for group in groups if len(group) >= count]


def given_texts(items: Iterable[Any]) -> list[str]:
    """The answers of a list that count, as texts."""
    return list(filter(None, map(_given, items)))


def _given(item: Any) -> str:
    """A person's answer as text; an empty one for none, and for one that the person is not confident of."""
    if isinstance(item, Mapping):
        if str(item.get("answer_confidence")).strip().lower() == "no":
            return ""
        item = item.get("answer")
    return "" if is_empty(item) else str(item).strip()


FILTERS = {"given_by": given_by, "final_answer": final_answer, "as_text": as_text}
