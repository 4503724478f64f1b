"""The linear format checks decide as EasyR1's patterns do, and stay linear where those do not."""

import random
import re

from gmpo_vl.rewards.formats import thinks_then_answers, thinks_then_boxes

EASYR1 = re.compile(r"<think>.*</think>.*\\boxed\{.*\}.*", re.DOTALL)
R1V = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
PIECES = [
    "<think>",
    "</think>",
    "< think >",
    "\\boxed{",
    "}",
    "<answer>",
    "</answer>",
    "a",
    " ",
    "\n",
    "/",
    "<",
    ">",
]


def test_they_agree_with_the_patterns_on_random_pieces():
    draw = random.Random(0)
    seen = set()
    for _ in range(5000):
        text = "".join(draw.choices(PIECES, k=draw.randint(1, 9)))
        if draw.random() < 0.5:
            text = "<think>" + text
        tight = re.sub(r"\s*(<|>|/)\s*", r"\1", text)
        assert thinks_then_boxes(text) == bool(EASYR1.fullmatch(tight)), text
        assert thinks_then_answers(text) == bool(R1V.fullmatch(text)), text
        seen.add((thinks_then_boxes(text), thinks_then_answers(text)))
    assert {(True, False), (False, True), (False, False)} <= seen


def test_degenerate_responses_come_to_an_end():
    """What looks at every pair of characters or more would not: it takes 10^12 steps here."""
    for text in ("<think></think>\\boxed{" * 50_000, " " * 1_000_000, "<think>" + "</think>" * 125_000):
        assert not thinks_then_boxes(text)
        assert not thinks_then_answers(text)
