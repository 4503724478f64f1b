"""Did the response keep the form it was asked for? Linear scans: no pattern that could backtrack."""

from __future__ import annotations

import re

_TURN = re.compile(r"</think>\s*<answer>")  # linear: each run of white space is seen once


def thinks_then_boxes(response: str) -> bool:
    r"""EasyR1's form: `<think>` first, then `</think>`, then a `\boxed{` and a `}` after it; white space
    around `<`, `>` and `/` does not count.
    """
    text = _tight(response)
    thought = text.find("</think>", len("<think>"))
    box = text.find("\\boxed{", thought)
    return text.startswith("<think>") and thought >= 0 and box >= 0 and text.find("}", box) >= 0


def thinks_then_answers(response: str) -> bool:
    """The r1v form: `<think>...</think>` and then `<answer>...</answer>`, with nothing before, between or
    after.
    """
    if not (response.startswith("<think>") and response.endswith("</answer>")):
        return False
    turn = _TURN.search(response, len("<think>"))
    return turn is not None and turn.end() <= len(response) - len("</answer>")


def _tight(text: str) -> str:
    """Without the white space around `<`, `>` and `/`."""
    for sign in "<>/":
        if sign in text:
            first, *inner, last = text.split(sign)
            text = sign.join([first.rstrip(), *(piece.strip() for piece in inner), last.lstrip()])
    return text
