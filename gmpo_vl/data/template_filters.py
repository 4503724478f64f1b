"""What a mapping file's templates can do beside jinja's own filters.

{{ solution | final_answer }}        the answer that a worked solution marks
{{ messages[0].content | as_text }}  a chat message's text, with an <image> tag for each picture in it
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gmpo_vl.data.templates import IMAGE_TAG

_BOX = re.compile(r"\\f?boxed\s*\{")


def marked_answer(text: str) -> str | None:
    r"""What stands in the last `<answer>`, else in the last `\boxed{}`, else after the last `####`.

    None where there is no such mark, or nothing at it. A box within the tag is opened, too.
    """
    if "<answer>" in text:
        inside = text.rpartition("<answer>")[2].partition("</answer>")[0]
        return (_last_box(inside) or inside).strip() or None
    if _BOX.search(text):
        return (_last_box(text) or "").strip() or None
    return text.rpartition("####")[2].strip() or None if "####" in text else None


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
    if str(part.get("type") or "").startswith("image"):
        return IMAGE_TAG
    return str(part.get("text") or "")


def _last_box(text: str) -> str | None:
    """The content of the last box whose braces close."""
    for start in reversed([match.end() for match in _BOX.finditer(text)]):
        depth = 1
        for end in range(start, len(text)):
            escaped = text[end - 1] == "\\"
            depth += 0 if escaped else (text[end] == "{") - (text[end] == "}")
            if depth == 0:
                return text[start:end]
    return None


FILTERS = {"final_answer": final_answer, "as_text": as_text}
