"""Money, percent, dates and marks inside words, in the spellings that people use for them."""

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.verify import verify


@pytest.mark.parametrize("kind", [None, "text"])
@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("$1,250.00", ["USD 1,250.00", "US$1,250.00", r"US\$1,250", "1,250 USD"], ["USD 1,251", "€1,250"]),
        ("US$5", ["$5", "USD 5", "5"], ["€5", "5%", "US$6"]),
        ("$2.5 bn", ["$2.5 billion", "$2.5bn", "2.5 billion"], ["$2.5 million", "$2.5", "$2.5 b"]),
        ("7%", ["7 per cent", "7 percent"], ["8 per cent", "7 per cents off"]),
        ("men's", ["mens", "Men's", "men’s"], ["women's", "men"]),
        ("don't walk", ["dont walk", "Don’t walk"], ["do walk", "don't talk"]),
        ("t-shirt", ["tshirt", "T-shirt", "t shirt"], ["shirt", "tshirts"]),
        ("March 3, 1997", ["March 3rd, 1997", "Mar. 3, 1997", "3 March 1997", "3rd of March, 1997"],
                          ["March 4, 1997", "May 3, 1997", "March 3, 1998", "March 13, 1997", "March 3"]),
        ("5th Sept. 2001", ["September 5, 2001", "Sep 5 2001"], ["October 5, 2001", "September 2001"]),
    ],
)  # fmt: skip
def test_one_thing_in_other_spellings(gold, right, wrong, kind):
    said = encode_answer(gold, type=kind)
    assert {answer for answer in right + wrong if is_right(said, answer)} == set(right)


def test_marks_inside_the_words_of_an_option():
    for options, right, wrong in (
        (("t-shirt", "pants"), ["tshirt", "T-shirt", "A. tshirt"], ["shirt", "B. tshirt"]),
        (("men's", "women's"), ["mens", "men's"], ["womens", "men"]),
        (("AB-CD", "ABCD"), ["AB-CD"], ["ABCD"]),
    ):
        gold = encode_answer("A", choices=list(options))
        assert {answer for answer in right + wrong if is_right(gold, answer)} == set(right)


def test_a_product_of_b_and_n_is_no_billion():
    assert is_right("$2bn$", r"2nb")
    assert not is_right("$2bn$", "2 billion")


def is_right(gold: str, answer: str) -> bool:
    return verify(gold, rf"\boxed{{{answer}}}").correct
