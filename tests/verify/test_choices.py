"""Multiple choice: which option an answer names, by letter, by text, or by both."""

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.verify import verify

LENGTHS = ("12 cm", "15 cm", "18 cm", "21 cm")
GEARS = ("the left gear", "the right gear", "gears A and C", "gears B, D and F")


def accepted(gold, answers, choices=None) -> set[str]:
    gold = encode_answer(gold, choices=choices)
    return {answer for answer in answers if verify(gold, rf"\boxed{{{answer}}}").correct}


@pytest.mark.parametrize(
    ("gold", "choices", "right", "wrong"),
    [
        (
            "C",
            LENGTHS,
            ["C", "c", "[C]", "(C.)", "C;", r"\(C\)", "**C**", "__C__", '"C"', "<b>C</b>", r"\mathbb{C}",
             "{C}", r"{\bf (C)}", "Letter C",
             "Option (C): 18 cm", "18 cm (C)", "18 cm [C]", "C → 18 cm", "C, i.e. 18 cm", "C - 18 cm",
             "C = 18 cm", "**C.** 18 cm",
             r"\mathrm{(C)~} 18 \mathrm{~cm}", "18", "180 mm", "18 cm or C", "C, not B",
             "C because B is wrong", "It's C", "C/C"],
            ["not C", "C or D", "D or C", "C/H", "C, D", "CD", "B", "(C) 15 cm", "15 cm (C)", "18 cm (B)",
             "B: 18 cm", "C → 15 cm",
             "all except C", "C?", "C is wrong", "C because D", "C, or maybe D", "C or 15 cm",
             "18 cm or 15 cm", "(C) 18 m", "C D", "CC",
             "C^2", "C1", "18 cm^2", r"\neg C", "18 cm, 15 cm", "A: 18 cm or C"],
        ),
        (
            "D",
            GEARS,
            ["gears B, D and F", "(D) gears B, D and F", "D, gears B, D and F", "d"],
            ["gears A and C", "B, D and F", "(D) gears A and C", "gears D, B and F", "(B) gears B, D and F",
             "D or A"],
        ),
        ("B", ("red", "red or blue", "blue"), ["red or blue", "(B) red or blue"], ["red", "red or green",
         "(B) red", "B or A"]),
        ("B", ("No", "Yes"), ["Yes", "B. Yes"], ["A. Yes", "B. No", "Yes or No"]),
        ("B", ("neither", "Solution A", "Solution B"), ["Solution A", "B", "(B) Solution A"], ["Solution B",
         "C", "(B) Solution B"]),
        ("B", ("neither", "Solution B", "Solution C"), ["Solution B", "B"], ["Solution C", "C",
         "Solution A"]),
        ("E", ("a", "b", "a-b", "ab", "a+b"), [r"\textbf{(E)}\ a+b", "b+a", "E"], ["a", "(E) a-b", "A+B"]),
    ],
)  # fmt: skip
def test_a_letter_and_a_text_must_both_be_right(gold, choices, right, wrong):
    assert accepted(gold, right + wrong, choices) == set(right)


@pytest.mark.parametrize(
    ("options", "right", "wrong"),
    [
        ((r"3\times4", r"2\times6", r"2\times5"), [r"2\times6", "2*6", r"(B) 2 \cdot 6"], [r"3\times4", "12",
         "4*3"]),
        (("1, 2, 3", "3, 1, 2", "2, 1, 3"), ["3, 1, 2", "3,1,2"], ["1, 2, 3", "2,1,3", "2, 3, 1"]),
        (("40 to 60", "20 to 30", "4 to 6"), ["20 to 30", "20-30"], ["40 to 60", "2:3", "4 to 6", "30-40"]),
        (("0.0 - 0.2", "0.2 - 0.4", "0.4 - 0.6"), ["0.2 - 0.4", "0.2–0.4"], ["0.4 - 0.6", "-0.2",
         "0.4 - 0.2"]),
        (("1/2", "50%", "2"), ["50%", "B"], ["0.5", "1/2"]),
        (("15", "18", "18"), ["B", "(B)"], ["18", "A", "C"]),
        (("(C, A, B)", "(C, B, A)", "(A, B, C)"), ["(C, B, A)"], ["(C, A, B)", "(A, B, C)", "(B, C, A)"]),
    ],
)  # fmt: skip
def test_an_answer_that_equals_another_option_is_never_accepted(options, right, wrong):
    assert accepted("B", right + wrong, options) == set(right)


def test_a_lone_letter_is_an_option_even_where_a_text_is_a_letter():
    assert accepted("D", ["D", "G", "g", "(D) G", "A", "K", "(D) K"], list("KENGU")) == {
        "D",
        "G",
        "g",
        "(D) G",
    }
    texts = ["(c)", "(d)", "(a)", "(b)", "(e)"]
    assert accepted(["(b)", "D"], ["D", "(D) (b)", "B", "(b)", "(D) (a)"], texts) == {"D", "(D) (b)"}


def test_a_letter_and_a_text_as_alternatives_are_one_option_among_unknown_ones():
    said = ["B", "720", "(B) 720", "720 (B)", "B or 720", "(B) 540", "(A) 720", "540", "B or 540"]
    assert accepted(["B", "720"], said) == {"B", "720", "(B) 720", "720 (B)", "B or 720"}
    assert accepted(["B", "3, 1, 2"], ["3,1,2", "1,2,3", "(B) 1,2,3"]) == {"3,1,2"}
    assert accepted(["B", r"2\times6"], ["2*6", r"3\times4", "12"]) == {"2*6"}


def test_a_letter_without_known_texts_is_taken_back_by_what_it_says():
    right = [
        "D",
        "(D) 45 cm",
        "D because I computed the area",
        "D, not B",
        "The answer is D. Note that A is a distractor",
    ]
    wrong = [
        "D?",
        "not D",
        "D/H",
        "D because A or B",
        "D if A",
        "D is not the answer",
        "D=4",
        "8 D",
        "D or not",
        "P(D)",
        "D x",
    ]
    assert accepted("D", right + wrong) == set(right)


def test_several_letters_are_a_set():
    right = [
        "AD",
        "A, D",
        "A and D",
        "D, A",
        "DA",
        "(A), (D)",
        "A & D",
        "both A and D",
        "A and D only",
        r"\text{A and D}",
    ]
    wrong = ["A", "AB", "A or D", "A/D", "A, D, B", "ABD", "not A and D", "A, A", "AE"]
    for gold in ("AD", "A, D", "A and D"):
        assert accepted(gold, right + wrong) == set(right)
