"""What the strict profile accepts and refuses, one family of rules a test."""

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.verify import parse_gold, verify, verify_batch


def correct(gold, answer: str) -> bool:
    return verify(gold, f"so \\boxed{{{answer}}}").correct


def test_the_last_complete_box_counts():
    assert verify("7", r"first \boxed{5}, no: \boxed{7}").correct
    assert not verify("5", r"first \boxed{5}, no: \boxed{7}").correct
    assert verify("5", r"\boxed{5} and then \boxed{7").outcome == "truncated"
    assert verify("5", r"\boxed{5} and then \boxed{}").outcome == "no_answer"
    assert verify("5", "five").outcome == "no_answer"
    assert verify(r"\{1,2\}", r"\boxed{\{1,2\}}").correct
    assert verify("5", r"\boxed{\boxed{5}}").correct


@pytest.mark.parametrize(
    ("answer_in", "box", "empty"),
    [("box", r"\boxed{5}", r"\boxed{}"), ("tag", "<answer>5</answer>", "<answer></answer>")],
)
def test_an_empty_box_that_a_sentence_mentions_is_no_answer(answer_in, box, empty):
    for said in (
        f"I put it in {empty} as asked.",
        f"The answer is written inside {empty}.",
        f"(in {empty} format)",
    ):
        assert verify("5", f"{box}. {said}", answer_in=answer_in).correct
        assert verify("5", said, answer_in=answer_in).outcome == "no_answer"
        assert not verify("6", f"{box}. {said}", answer_in=answer_in).correct
    for said in (
        f"So the answer is {empty}.",
        f"The area is put in {empty} as asked.",
        f"Twice that is put in {empty}.",
        f"Wait, I put it in {empty} as asked.",
        f"I add 2 and put it in {empty}.",
        f"I put it in {empty} as asked, and the second one is",
    ):
        assert verify("5", f"{box}. {said}", answer_in=answer_in).outcome == "no_answer"


def test_boxes_side_by_side_are_one_answer():
    assert not verify("5", r"\boxed{3} or \boxed{5}").correct
    assert verify("3, 5", r"\boxed{3} and \boxed{5}").correct
    assert verify("5", r"\boxed{5}. The answer is \boxed{5}").correct


def test_the_json_form_travels_through_the_answer_column():
    gold = encode_answer("9.8", tolerance=0.01)
    assert correct(gold, "9.81")
    assert not correct(gold, "9.9")
    assert not correct("9.8", "9.81")
    choices = encode_answer("B", type="choice", choices=["3", "5", "7", "9"])
    assert correct(choices, "B")
    assert correct(choices, "5")
    assert correct(choices, "(B) 5")
    assert not correct(choices, "(B) 7")
    assert not correct(choices, "A")
    assert correct(encode_answer(["1/2", "50"]), "50")
    assert encode_answer(142.0) == "142"
    assert parse_gold(encode_answer("{1,2}")).alternatives == ("{1,2}",)


def test_a_gold_that_verifies_nothing_is_the_datas_mistake():
    with pytest.raises(ValueError, match="empty"):
        encode_answer("")
    for gold in (None, [None, "5"], ["5", float("nan")], []):
        with pytest.raises(ValueError, match="empty"):
            encode_answer(gold)
        with pytest.raises(ValueError, match=r"is empty|a text, a number or a list"):
            parse_gold(gold)
    for gold in ({"a": 1}, b"5", ["5", {"a": 1}], [["5"]]):
        with pytest.raises(ValueError, match="is no text and no number"):
            encode_answer(gold)
    with pytest.raises(ValueError, match="empty"):
        verify(" ", r"\boxed{5}")
    with pytest.raises(ValueError, match="tolerence"):
        verify('{"gold": "5", "tolerence": 0.1}', r"\boxed{5}")


@pytest.mark.parametrize("tolerance", ["5", "-0.1", "1", "NaN", '"0.1"', "true", "[0.1]"])
def test_a_tolerance_that_is_no_fraction_is_the_datas_mistake(tolerance):
    with pytest.raises(ValueError, match=r"tolerance=.* between 0 and 1"):
        parse_gold(f'{{"gold": "7", "tolerance": {tolerance}}}')


def test_a_batch_keeps_order():
    verdicts = verify_batch(["1", "2", "3"], [r"\boxed{1}", r"\boxed{1}", "nothing"])
    assert [v.outcome for v in verdicts] == ["equal", "different", "no_answer"]
    with pytest.raises(ValueError, match="2 golds and 1 responses"):
        verify_batch(["1", "2"], ["x"])


@pytest.mark.parametrize(
    "joint",
    [
        " / ",
        " and/or ",
        " or else ",
        " but also ",
        " vs ",
        " $\\vee$ ",
        " = ",
        " & ",
        " 2) ",
        r" \\ ",
        " | ",
        ", if wrong ",
        r" \quad\text{or}\quad ",
    ],
)
def test_two_boxes_are_a_hedge_whatever_joins_them(joint):
    response = rf"1) \boxed{{3}}{joint}\boxed{{4}}"
    assert not verify("3", response).correct
    assert not verify("4", response).correct


def test_a_correction_is_no_hedge():
    assert verify("1/2", r"\boxed{\frac{1}{2}} = \boxed{0.5}").correct
    for said in (
        r"\boxed{3} is wrong, so \boxed{4}",
        r"\boxed{3}. Wait, \boxed{4}",
        r"\boxed{4}. So: \boxed{4}",
    ):
        assert verify("4", said).correct
        assert not verify("3", said).correct


def test_two_tags_or_a_value_and_a_box_in_a_tag_are_a_hedge():
    for said in (
        "<answer>3</answer> or <answer>4</answer>",
        "<answer>3</answer><answer>4</answer>",
        r"<answer>It is 3 or \boxed{4}</answer>",
        r"<answer>$3$ and/or $\boxed{4}$</answer>",
    ):
        assert not verify("3", said, answer_in="tag").correct
        assert not verify("4", said, answer_in="tag").correct
    for said in (
        "<answer>4</answer>",
        "<answer>4</answer> <answer>4</answer>",
        "<answer>3</answer> No, I misread it: <answer>4</answer>",
        r"<answer>It is \boxed{4}</answer>",
    ):
        assert verify("4", said, answer_in="tag").correct
