"""The article "a", "It's", an exclamation mark and the case of options that are letters."""

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.verify import verify


def accepted(gold, answers: list[str]) -> set[str]:
    return {answer for answer in answers if verify(gold, rf"\boxed{{{answer}}}").correct}


def choice(letter: str, *options: str) -> str:
    return encode_answer(letter, choices=list(options))


def test_an_article_is_no_letter():
    animals = ("apple", "bear", "dog", "cat")
    right = ["a dog", "A dog", "a dog.", "It's a dog", "It’s a dog", "It is a dog", "This is a dog",
             "The answer is a dog", "C. a dog", "a dog (C)", "A dog (C)"]  # fmt: skip
    wrong = ["A. dog", "(A) dog", "A: dog", "Option A dog", "The answer is A dog", "A Dog", "a cat", "A", "a",
             "a dog (B)", "A dog (A)", "a cat (C)", "a dog or a cat"]  # fmt: skip
    assert accepted(choice("C", *animals), right + wrong) == set(right)
    assert accepted(choice("A", *animals), ["an apple", "a dog", "A bear"]) == {"an apple"}
    assert accepted(choice("B", "a blue bus", "bus", "plane"), ["a bus", "A bus"]) == {"a bus", "A bus"}
    assert accepted(choice("B", "Yes", "No"), ["A no", "a no", "A No"]) == set()
    assert accepted(choice("B", "falls", "increases"), ["A increases"]) == set()


def test_a_short_word_may_follow_its():
    right = ["It's day", "It’s day", "it's day.", "It is day", "That's day"]
    wrong = ["It's night", "It's not day", "It's day or night", "It's B", "It's dya"]
    assert accepted(choice("A", "day", "night"), right + wrong) == set(right)
    assert accepted("day", right + wrong[:3]) == set(right)


@pytest.mark.parametrize("kind", [None, "text"])
def test_an_exclamation_mark_after_a_word_says_nothing(kind):
    for gold in ("yes", "stop", "cafe", "Yahoo!", "jeopardy!"):
        word = gold.rstrip("!")
        right = [word, f"{word}!", f"{word.upper()}!", f"{word}!!", f"It's {word}!"]
        assert accepted(encode_answer(gold, type=kind), [*right, "no!", f"not {word}!"]) == set(right)
    for gold, wrong in (("n!", "n"), ("5!", "5"), ("5", "5!"), ("x", "x!"), ("ab", "a b!")):
        assert accepted(encode_answer(gold, type=kind), [gold, wrong]) == {gold}
    assert accepted(encode_answer("120", type=kind), ["5!", "120!"]) == {"5!"}


def test_an_exclamation_mark_after_an_option_says_nothing():
    right = ["No!", "no!!", "B!", "(B)!", "B. No!"]
    assert accepted(choice("B", "Yes", "No"), [*right, "Yes!", "A!", "A. No!"]) == set(right)
    assert accepted(choice("B", "Go", "Go!"), ["Go!", "Go", "B. Go!"]) == {"Go!", "B. Go!"}
    assert accepted(choice("A", "n!", "n", "2n"), ["n!", "n", "A. n!"]) == {"n!", "A. n!"}


def test_the_letter_with_its_text_in_capitals_where_options_are_letters():
    right = ["B", "B. c", "B. C", "(B) C", "B: C", "Option B: C", "C (B)"]
    wrong = ["C", "c", "B. A", "B. D", "A. C", "C. C", "B, C", "B or C"]
    assert accepted(choice("B", "d", "c", "a", "k"), right + wrong) == set(right)
    assert accepted(choice("D", "x", "y", "z", "w"), ["D. W", "D. w", "D. X", "W"]) == {"D. W", "D. w", "W"}
    assert accepted(choice("A", "m", "M", "k"), ["A. m", "A. M", "B. M"]) == {"A. m"}
