"""What a mapping file's templates can do beside jinja's own filters.

{{ solution | final_answer }}        the answer that a worked solution marks
{{ messages[0].content | as_text }}  a chat message's text, with an <image> tag for each picture in it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gmpo_vl.data.boxes import box_at, last_start
from gmpo_vl.data.templates import IMAGE_TAG


def marked_answer(text: str) -> str | None:
    r"""What stands in the last `<answer>`, else in the last `\boxed{}`, else on the last line after `####`.

    None where there is no such mark, nothing at it, or where the last one does not close. A box within the
    tag is opened, too. A `####` that more than its line follows is a heading of Markdown.
    """
    found: str | None = None
    if "<answer>" in text:
        inside, closed, _ = text.rpartition("<answer>")[2].partition("</answer>")
        found = _in_box(inside) if closed else None
    elif last_start(text, len(text)) >= 0:
        found = _in_box(text)
    else:
        before, _, line = text.rstrip().rpartition("####")
        found = None if "\n" in line or before.endswith("#") or "####" not in text else line
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
            "final_answer finds no <answer>, no \\boxed{} and no #### with an answer in the text"
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


FILTERS = {"final_answer": final_answer, "as_text": as_text}
