"""Numbers under the type `text`: which spellings are one amount, and what is no amount."""

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.verify import verify


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("two", ["2", "2.0", "two", "Two"], ["2nd", "2^{nd}", "1+1", "4/2", "3"]),
        ("7", ["7.0", "seven", "7 dogs", "3+4=7"], ["7th", r"7^{\text{th}}", "3+4", r"\frac{14}{2}",
                                                    "14/2", r"\sqrt{49}", "10-3", "the 7th"]),
        ("1", ["one"], ["1st", "2/2"]),
        ("2nd", ["2nd", "2ND"], ["2"]),
        ("C#", ["C#", "c#", r"C\#"], ["C", "C+"]),
        ("#1", ["#1"], ["1", "#2"]),
        ("B-", ["B-", "b-"], ["B", "B+"]),
        ("7%", ["7", r"7\%", "7 %", "7 percent"], ["$7", r"\$7"]),
        ("50%", ["0.5", "1/2"], ["$50", "50+0"]),
        ("$5", ["5", r"\$5", "5 dollars"], ["5%", r"5\%"]),
        ("01002", ["01002", "The answer is 01002."], ["1002", "1001+1", "01003"]),
        ("007", ["007"], ["7", "07"]),
        ("100", ["100", "10^2"], ["50+50", "99+1"]),
    ],
)  # fmt: skip
def test_what_is_no_such_amount(gold, right, wrong):
    assert accepted(gold, right + wrong) == set(right)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("-5 °C", ["-5", "-5 C", "-5°C", "-5℃", r"-5^\circ C", "-5 degrees Celsius"], ["5", "-5 °F", "-6"]),
        ("20 °F", ["20", "20°F"], ["20 °C", "21"]),
        ("½", ["1/2", "0.5", r"\frac{1}{2}"], ["1-2", "2", "0.25"]),
        ("2½", ["2.5", "2 1/2"], ["21/2", "2", "1/2"]),
        ("1/2", ["½", "0.5"], ["2", "1-2"]),
        ("1.5 million", ["1,500,000", "1500000"], ["1.5", "1.5 billion", "1,500"]),
        ("1,500,000", ["1.5 million"], ["1.5 billion"]),
        ("$2 million", ["$2,000,000", "2 million dollars"], ["$2", "2 billion dollars"]),
        ("400 g", ["400", "400 grams"], ["400 kg", "40"]),
        ("9/11", ["9/11"], ["18/22", "9-11"]),
        ("6/8", ["6/8"], ["3/4", "0.75"]),
        ("4/2", ["4/2"], ["2"]),
        ("3/4", ["3/4", "0.75"], ["6/8", "4/3"]),
    ],
)
def test_an_amount_in_another_spelling(gold, right, wrong):
    assert accepted(gold, right + wrong) == set(right)


def accepted(gold: str, answers: list[str]) -> set[str]:
    said = encode_answer(gold, type="text")
    return {answer for answer in answers if verify(said, rf"\boxed{{{answer}}}").correct}
