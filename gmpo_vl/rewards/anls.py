"""ANLS (Biten et al. 2019, as DocVQA scores): how close the text is to the nearest reference.

score = max over references of 1 - d, where d = edit distance / length of the longer text; 0 where d >= 0.5
and 1 for an answer that is equal to a reference, however it is spelled.

A gold of type list (answer_type: list) is scored as DUDE does (Van Landeghem et al. 2023): its items and
those of the answer are paired so that the sum of their scores is largest, and the score is that sum divided
by the larger number of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gmpo_vl.rewards.about import BOX_OR_TAG, About
from gmpo_vl.rewards.scoring import verdicts_of, with_settings
from gmpo_vl.rewards.values import check_values
from gmpo_vl.verify import Gold, Verdict, parse_gold
from gmpo_vl.verify.lex import MAX_CHARS
from gmpo_vl.verify.lists import readings

REWARD_NAME = "anls"
REWARD_TYPE = "batch"
ABOUT = About(
    when="Short texts read off a picture, where a slip of a letter is nearly right: DocVQA, DUDE.",
    gold="a text, several references, or a list whose items are right together",
    reads=BOX_OR_TAG,
    examples=(
        ("colour", r"\boxed{color}"),
        ("colour", r"\boxed{collar bone}"),
        ('{"gold": ["red", "blue"], "type": "list"}', r"\boxed{blue}"),
        ('{"gold": ["red", "blue"], "type": "list"}', r"\boxed{blue, red}"),
    ),
    options={"threshold": "distance, as a share of the longer text, from which on the score is 0"},
    parts={
        "overall": "the similarity: what is trained on",
        "accuracy": "1 where it is equal to a reference, or to the whole list",
    },
)
MAX_REFERENCE = 500  # characters; a longer text is compared up to here


def compute_score(
    reward_inputs: list[dict[str, Any]], threshold: float = 0.5, answer_in: str = "box"
) -> list[dict[str, float]]:
    """`overall` (the similarity), `accuracy` (equal to a reference, or to the list) and `format` per input.

    threshold: the distance from which on the score is 0. answer_in: "box" or "tag".
    """
    check_values(REWARD_NAME, threshold=threshold, answer_in=answer_in)
    scores = []
    for given, verdict in zip(reward_inputs, verdicts(reward_inputs, answer_in)):
        gold, said = parse_gold(given["ground_truth"]), verdict.extracted
        near = float(verdict.correct)  # 1 also where the spelling differs: $5 and 5
        if said is not None and not verdict.correct:
            near = nearness(said, gold, threshold)
        scores.append(
            {"overall": near, "accuracy": float(verdict.correct), "format": float(said is not None)}
        )
    return scores


def verdicts(reward_inputs: list[dict[str, Any]], answer_in: str = "box") -> list[Verdict]:
    return verdicts_of(reward_inputs, lambda gold: with_settings(gold, type="text"), answer_in=answer_in)


def nearness(said: str, gold: Gold, threshold: float = 0.5) -> float:
    """The score of a text: against the nearest reference, or against all items of a list together."""
    if gold.type != "list":
        return max(similarity(said, reference, threshold) for reference in gold.alternatives)
    if len(said) > MAX_CHARS:
        return 0.0
    return max((_of_items(items, gold.alternatives, threshold) for items in readings(said)), default=0.0)


def _of_items(items: Sequence[str], golds: Sequence[str], threshold: float) -> float:
    fewer, more = sorted((items, golds), key=len)
    return largest_sum([[similarity(a, b, threshold) for b in more] for a in fewer]) / len(more)


def largest_sum(worth_NM: Sequence[Sequence[float]]) -> float:
    """The largest sum of one entry a row, no two of them in one column; N <= M.

    Rows come in one by one. A row may take a column from an earlier one, which then takes another: of all
    such chains the one that adds most is made (the Hungarian method in its plainest form).
    """
    row_of: dict[int, int] = {}  # of each taken column
    total, columns = 0.0, range(len(worth_NM[0]) if worth_NM else 0)
    for start, worth_M in enumerate(worth_NM):
        gain_M, before_M = list(worth_M), [-1] * len(columns)  # of the best chain to each column, and its way
        for _ in row_of:
            for j, row in row_of.items():
                for k in columns:
                    gain = gain_M[j] - worth_NM[row][j] + worth_NM[row][k]
                    if gain > gain_M[k] + 1e-12:
                        gain_M[k], before_M[k] = gain, j
        end = max((k for k in columns if k not in row_of), key=gain_M.__getitem__)
        total += gain_M[end]
        while (taken := before_M[end]) >= 0:
            row_of[end] = row_of[taken]
            end = taken
        row_of[end] = start
    return total


def similarity(text: str, reference: str, threshold: float = 0.5) -> float:
    """1 - normalised edit distance, without case and outer spaces; 0 from `threshold` on."""
    one, two = (" ".join(t.lower().split())[:MAX_REFERENCE] for t in (text, reference))
    longer = max(len(one), len(two))
    if longer == 0 or abs(len(one) - len(two)) >= threshold * longer:
        return 0.0
    distance = _edits(one, two) / longer
    return 1 - distance if distance < threshold else 0.0


def _edits(one: str, two: str) -> int:
    """Levenshtein's distance, one row at a time."""
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(two, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]
