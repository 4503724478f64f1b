"""Mathematics as people write it, beside near misses: letters or units, equations, sets of numbers, points,
counting.
"""

import json
from collections import Counter
from pathlib import Path

from gmpo_vl.verify import verify

PAIRS = [
    json.loads(line)
    for line in Path(__file__).with_name("maths.jsonl").read_text(encoding="utf-8").splitlines()
]


def correct(gold: str, answer: str) -> bool:
    return verify(gold, rf"so \boxed{{{answer}}}").correct


def test_every_pair_is_judged_as_labelled():
    wrong = [
        f"{row['kind']}: {'refused' if row['correct'] else 'ACCEPTED'} "
        f"gold {row['gold']!r} answer {row['answer']!r}"
        for row in PAIRS
        if correct(row["gold"], row["answer"]) != row["correct"]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_kind_has_near_misses():
    kinds = Counter((row["kind"], row["correct"]) for row in PAIRS)
    assert all(kinds[kind, right] >= 15 for kind, _ in kinds for right in (True, False)), kinds


def test_whole_numbers_are_tried_far_enough():
    """1 + C(n,2) + C(n,4) is 2^(n-1) up to n = 5."""
    assert not correct(r"1+\binom{n}{2}+\binom{n}{4}", "2^{n-1}")
    assert correct(r"\sum_{k=0}^{n}\binom{n}{k}", "2^n")


def test_an_answer_that_names_several_values_is_no_answer():
    for answer in (r"\max(3,7)", r"\min(7,8)", r"\gcd(7,14)"):
        assert not correct("7", answer)
    assert correct(r"\max(3,7)", "7")


def test_no_text_takes_long_steps():
    """What could run away is refused before it is computed: long series, nested bars, crossed unions."""
    union = r"\cup".join(f"({2 * i},{2 * i + 1})" for i in range(60))
    for text in (
        r"\sum_{k=1}^{10^9} k",
        r"\prod_{k=1}^{300} k^{k^9}",
        r"\Gamma(10^9+0.5)",
        rf"({union})\cap({union})",
        "|" * 15 + "x" + "|" * 15 + "<3",
        r"\{x\in\mathbb{Z}\mid |x|<10^{100}\}",
        "<".join(["1", *"x" * 200]),
        "{}^" * 300 + "C",
        "(" * 30 + "C(7" + ",3)" * 30,
    ):
        for gold, answer in (("7", text), ("[1,2]", text), ("x>3", text), (text, "7")):
            assert verify(gold, rf"\boxed{{{answer}}}").outcome not in ("equal", "error"), (gold, answer)
