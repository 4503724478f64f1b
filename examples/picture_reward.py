"""A reward that looks at the picture: 0.9 for the right answer, 0.1 for saying where to look.

A response may hold one `<look>x1, y1, x2, y2</look>`, in pixels of the stored picture. It is paid where the
box takes at most a quarter of the picture and something is drawn in it.

    gmpo-vl train MY.yaml worker.reward.reward_function=examples/picture_reward.py:compute_score
"""

import re

from gmpo_vl.verify import verify

REWARD_INPUTS = ("images",)  # else a reward is given text only
LOOK = re.compile(r"<look>(\d{1,5}), ?(\d{1,5}), ?(\d{1,5}), ?(\d{1,5})</look>")


def compute_score(reward_inputs, look_weight=0.1):
    scores = []
    for given in reward_inputs:
        right = float(verify(given["ground_truth"], given["response"]).correct)
        boxes = [tuple(map(int, found)) for found in LOOK.findall(given["response"])]
        look = float(len(boxes) == 1 and any(is_drawn(picture, boxes[0]) for picture in given["images"]))
        overall = (1 - look_weight) * right + look_weight * look
        scores.append({"overall": overall, "accuracy": right, "look": look})
    return scores


def is_drawn(picture, box):
    """Is the box a small part of the picture, with light and dark in it?"""
    x1, y1, x2, y2 = box
    if not (x1 < x2 <= picture.width and y1 < y2 <= picture.height):
        return False
    if 4 * (x2 - x1) * (y2 - y1) > picture.width * picture.height:
        return False
    darkest, lightest = picture.crop(box).convert("L").getextrema()
    return lightest - darkest > 50
