"""Pairs of gold and response after public reports of wrong verdicts, and after kinds found in real models'
answers.
"""

import json
from collections import defaultdict
from pathlib import Path

from gmpo_vl.verify import verify

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("cases.jsonl").read_text(encoding="utf-8").splitlines()
]
# Right by their label, and refused on purpose.
REFUSED = {
    "2210_{3}|2210": "digits without their base are another number (the corpus has 2516_8 against 2516)",
    "535_7|535": "the same",
    "1101|1101_2": "the same, the other way round (the corpus has 68 against 68_9)",
    "24.13|24.125": "a decimal gold is exact unless its type is `rounded`",
    "416.6667|416.67": "the same; and 416.67 has fewer digits than the gold",
}


def name(case: dict) -> str:
    return f"{case['gold']}|{case['response'].partition('boxed{')[2].rstrip('$.').removesuffix('}')}"


def verdicts() -> list[tuple[dict, bool]]:
    return [(case, verify(case["gold"], case["response"]).correct) for case in CASES]


def test_no_wrong_answer_is_accepted():
    wrong = [f"{case['kind']}: {name(case)}" for case, right in verdicts() if right and not case["correct"]]
    assert not wrong, "\n".join(wrong)


def test_nearly_all_right_answers_are_accepted_in_every_kind():
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for case, right in verdicts():
        counts[case["kind"]][0] += 1
        counts[case["kind"]][1] += right == case["correct"]
    total, agreed = (sum(count[i] for count in counts.values()) for i in (0, 1))
    assert agreed >= 0.97 * total
    low = {kind: count for kind, count in counts.items() if count[0] >= 10 and count[1] < 0.9 * count[0]}
    assert not low


def test_what_is_refused_on_purpose_is_named():
    names = {name(case) for case in CASES}
    accepted = {name(case) for case, right in verdicts() if right}
    assert names >= REFUSED.keys()
    assert not accepted & REFUSED.keys(), "no longer refused"
