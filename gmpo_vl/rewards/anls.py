"""ANLS (Biten et al. 2019, as DocVQA scores): how close the text is to the nearest reference.

score = max over references of 1 - d, where d = edit distance / length of the longer text; 0 where d >= 0.5
and 1 for an answer that is equal to a reference, however it is spelled.
"""

from __future__ import annotations

from typing import Any

from gmpo_vl.rewards.about import BOX_OR_TAG, About
from gmpo_vl.rewards.scoring import verdicts_of, with_settings
from gmpo_vl.verify import Verdict, parse_gold

REWARD_NAME = "anls"
REWARD_TYPE = "batch"
ABOUT = About(
    when="Short texts read off a picture, where a slip of a letter is nearly right: DocVQA, InfographicVQA.",
    gold="a text, or several references",
    reads=BOX_OR_TAG,
    examples=(("colour", r"\boxed{color}"), ("colour", r"\boxed{collar bone}")),
    options={"threshold": "distance, as a share of the longer text, from which on the score is 0"},
    parts={"overall": "the similarity: what is trained on", "accuracy": "1 where it is equal to a reference"},
)
MAX_REFERENCE = 500  # characters; a longer text is compared up to here


def compute_score(
    reward_inputs: list[dict[str, Any]], threshold: float = 0.5, answer_in: str = "box"
) -> list[dict[str, float]]:
    """`overall` (the similarity), `accuracy` (equal to a reference) and `format` per input.

    threshold: the distance from which on the score is 0. answer_in: "box" or "tag".
    """
    scores = []
    for given, verdict in zip(reward_inputs, verdicts(reward_inputs, answer_in)):
        references = parse_gold(given["ground_truth"]).alternatives
        said = verdict.extracted
        near = float(verdict.correct)  # 1 also where the spelling differs: $5 and 5
        if said is not None and not verdict.correct:
            near = max(similarity(said, reference, threshold) for reference in references)
        scores.append(
            {"overall": near, "accuracy": float(verdict.correct), "format": float(said is not None)}
        )
    return scores


def verdicts(reward_inputs: list[dict[str, Any]], answer_in: str = "box") -> list[Verdict]:
    return verdicts_of(reward_inputs, lambda gold: with_settings(gold, type="text"), answer_in=answer_in)


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
