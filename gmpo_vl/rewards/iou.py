"""A bounding box: intersection over union with the gold box `[x1, y1, x2, y2]`, the nearest of several."""

from __future__ import annotations

import re
from typing import Any

from gmpo_vl.rewards.about import BOX_OR_TAG, About
from gmpo_vl.rewards.values import check_values
from gmpo_vl.verify import parse_gold
from gmpo_vl.verify.extract import answer_tag, last_box

REWARD_NAME = "iou"
REWARD_TYPE = "batch"
ABOUT = About(
    when="Grounding: the response says where something is. Gold and response count in the same pixels.",
    gold="a box [x1, y1, x2, y2] with x1 < x2 and y1 < y2, as one text; or several",
    reads=BOX_OR_TAG,
    examples=(("[0, 0, 10, 10]", r"\boxed{[0, 0, 10, 6]}"), ("[0, 0, 10, 10]", "in the corner")),
    options={
        "threshold": "IoU from which on accuracy is 1",
        "graded": "overall is the IoU; false: the accuracy",
    },
    parts={"iou": "intersection over union", "format": "1 where there was a box of four numbers"},
)
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?")
_LETTERS = re.compile(r"[a-wzA-WZ]")  # x1, y2 may stand in a box; other letters say that it is none

Box = tuple[float, float, float, float]


def compute_score(
    reward_inputs: list[dict[str, Any]], threshold: float = 0.5, graded: bool = True, answer_in: str = "box"
) -> list[dict[str, float]]:
    r"""`overall`, `iou`, `accuracy` (IoU of at least `threshold`) and `format` (there was a box of four
    numbers) per input.

    graded: pay the IoU; False pays the accuracy. answer_in: "box" for `\boxed{}`, "tag" for `<answer>`.
    Raises ValueError for a gold that is no box, and for an option's value that cannot be.
    """
    check_values(REWARD_NAME, threshold=threshold, graded=graded, answer_in=answer_in)
    scores = []
    for given in reward_inputs:
        golds = golds_of(given["ground_truth"])
        found = (answer_tag if answer_in == "tag" else last_box)(given["response"])
        box = box_of(found.text or "")
        iou = max(intersection_over_union(gold, box) for gold in golds) if box else 0.0
        accuracy = float(iou >= threshold)
        scores.append(
            {
                "overall": iou if graded else accuracy,
                "iou": iou,
                "accuracy": accuracy,
                "format": float(box is not None),
            }
        )
    return scores


def golds_of(ground_truth: str) -> list[Box]:
    """The boxes of a gold, of which any one is right."""
    boxes = [box_of(text) for text in parse_gold(ground_truth).alternatives]
    found = [box for box in boxes if box is not None]
    if len(found) < len(boxes):
        raise ValueError(
            f"the gold {ground_truth!r} is no box [x1, y1, x2, y2] with x1 < x2 and y1 < y2; write a box as "
            "one text (a list of numbers is several golds)"
        )
    return found


def box_of(text: str) -> Box | None:
    """The four numbers of a box with an area; None for anything else."""
    numbers = [float(n) for n in _NUMBER.findall(re.sub(r"[xy]_?\{?[12]\}?\s*[=:]", " ", text))]
    if len(numbers) != 4 or _LETTERS.search(text):
        return None
    x1, y1, x2, y2 = numbers
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def intersection_over_union(one: Box, two: Box) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two))
    return shared / (areas - shared)
