"""Every real gold verifies against itself, none against its neighbour, and one changed digit or sign is
refused.
"""

import json
import random
import re

import pytest

from gmpo_vl.verify import verify
from gmpo_vl.verify.self_check import self_check


def geometry3k(data_dir) -> list[str]:
    path = data_dir / "geometry3k" / "annotations_all_3002.jsonl"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]


def benchmarks(data_dir) -> list:
    datasets = pytest.importorskip("datasets")
    path = data_dir / "math_eval" / "evaluation_suite"
    if not path.is_dir():
        pytest.skip(f"no {path}")
    suite = datasets.load_from_disk(str(path))
    return [gold for split in suite.values() for gold in split["answer"]]


def correct(gold, answer: str) -> bool:
    return verify(gold, rf"\boxed{{{answer}}}").correct


def first(gold) -> str:
    return (gold[0] if isinstance(gold, list) else f"{gold:g}" if isinstance(gold, float) else gold).strip()


def test_all_golds_verify_against_themselves(data_dir):
    assert len(geometry3k(data_dir)) == 3002
    assert len(benchmarks(data_dir)) == 1560
    assert self_check(data_dir / "geometry3k" / "annotations_all_3002.jsonl") == []
    assert self_check(data_dir / "math_eval" / "evaluation_suite") == []


def test_no_gold_answers_its_neighbour(data_dir):
    for golds in (geometry3k(data_dir), benchmarks(data_dir)):
        for gold, other in zip(golds, golds[1:] + golds[:1]):
            if correct(gold, first(other)):
                assert correct(other, first(gold)) or isinstance(gold, list), (gold, other)
                assert value(first(gold)) == value(first(other)), (gold, other)


def value(text: str) -> str:
    """The text of a gold without spelling: what makes equal neighbours equal."""
    return re.sub(r"[\s$\n]|\\text|^0+(?=\d)|\.0$|dfrac|frac|^x=", "", text).rstrip(".")


def test_one_digit_or_sign_changed_is_refused(data_dir):
    draw = random.Random(0)
    for gold in geometry3k(data_dir) + benchmarks(data_dir):
        text = first(gold)
        digits = [m.start() for m in re.finditer(r"\d", text)]
        if not digits:
            continue
        at = draw.choice(digits)
        changed = text[:at] + str((int(text[at]) + draw.randint(1, 8)) % 10) + text[at + 1 :]
        if not any(
            changed.strip() == other.strip()
            for other in ([gold] if isinstance(gold, str) else gold if isinstance(gold, list) else [])
        ):
            assert not correct(gold, changed), (gold, changed)
        turned = text[1:] if text.startswith("-") else "-" + text
        if re.fullmatch(r"-?[\d. ]+", text) and float(text.replace(" ", "")) != 0:
            assert not correct(gold, turned), (gold, turned)
