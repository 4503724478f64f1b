"""Golds of type list: all items and no other, in any order, however they are joined."""

import json

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.rewards.anls import largest_sum
from gmpo_vl.rewards.loading import load_reward
from gmpo_vl.verify import parse_gold, verify
from gmpo_vl.verify.natural_forms import natural_forms, unreached
from gmpo_vl.verify.self_check import self_check

FRUIT = encode_answer(["apples", "pears"], type="list")


def accepted(gold, answers: list[str]) -> set[str]:
    return {answer for answer in answers if verify(gold, rf"\boxed{{{answer}}}").correct}


def test_all_items_and_no_other():
    right = ["apples, pears", "pears, apples", "Apples; Pears", "apples and pears", "apples & pears",
             '["pears", "apples"]', "- apples\n- pears", "1. pears\n2. apples", r"\text{apples, pears}",
             "pears\u3001apples"]  # fmt: skip
    wrong = ["apples", "pears", "apples, pears, figs", "apples or pears", "apples, apples", "apple, pears",
             "apples, pears, apples", "not apples and pears", "apples, not pears", "apples, figs",
             "pears apples", ","]  # fmt: skip
    assert accepted(FRUIT, right + wrong) == set(right)


def test_items_may_hold_commas_words_and_amounts():
    names = encode_answer(["Smith, John", "Black and Decker", "$5"], type="list")
    right = ["Smith, John; Black and Decker; $5", "Black and Decker\n5 dollars\nSmith, John"]
    wrong = [
        "Smith; John; Black and Decker; $5",
        "Smith, John; Black and Decker",
        "$6; Smith, John; Black and Decker",
    ]
    assert accepted(names, right + wrong) == set(right)
    assert accepted(
        encode_answer(["Paris, France"], type="list"), ["Paris, France", "Paris", "France, Paris"]
    ) == {"Paris, France"}
    assert accepted(encode_answer([3, 5], type="list"), ["5, 3", "three and five", "3", "35", "3.5"]) == {
        "5, 3",
        "three and five",
    }


@pytest.mark.parametrize("gold", [FRUIT, encode_answer(["Smith, John", "Lee"], type="list")])
def test_the_golds_own_forms_verify(gold, tmp_path):
    spec = parse_gold(gold)
    assert len(natural_forms(spec)) >= 3
    assert unreached(spec, lambda text: verify(spec, rf"\boxed{{{text}}}").correct) == []
    (tmp_path / "rows.jsonl").write_text(json.dumps({"answer": gold}) + "\n")
    assert self_check(tmp_path / "rows.jsonl") == []
    assert not verify(spec, rf"\boxed{{{spec.alternatives[0]}}}", "paper").correct


@pytest.mark.parametrize("name", ["text", "accuracy", "math", "choice"])
def test_rewards_of_a_verdict_pay_for_the_whole_list(name):
    assert [overall(name, FRUIT, text) for text in ("pears, apples", "apples", "apples, pears, figs")] == [
        1,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("said", "paid"),
    [
        ("pears and apples", 1),
        ("apples", 1 / 2),  # a part
        ("apples, pears, figs", 2 / 3),  # more than there are
        ("apples, apples", 1 / 2),  # nothing counts twice
        ("apple, pears", (1 + 5 / 6) / 2),
        ("figs", 0),
        ("apples or pears", 0),
        ("", 0),
    ],
)
def test_anls_pays_a_list_as_dude_does(said, paid):
    assert overall("anls", FRUIT, said) == pytest.approx(paid)


def test_alternatives_stay_alternatives():
    either = encode_answer(["apples", "pears"])
    assert overall("anls", either, "apples") == 1
    assert overall("text", either, "apples") == 1


def test_the_largest_sum_is_found_where_the_nearest_pairs_are_not():
    assert largest_sum([[0.9, 0.8], [0.8, 0.0]]) == pytest.approx(1.6)
    assert largest_sum([[0.9, 0.8, 0.0], [0.8, 0.0, 0.1], [0.7, 0.6, 0.0]]) == pytest.approx(1.6)
    assert largest_sum([[0.2, 0.7, 0.1]]) == pytest.approx(0.7)
    assert largest_sum([]) == 0


def overall(name: str, gold: str, said: str) -> float:
    given = {"response": rf"\boxed{{{said}}}", "response_length": 5, "ground_truth": gold}
    return load_reward(name)([given])[0]["overall"]
