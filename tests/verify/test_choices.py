"""Multiple choice: which option an answer names, by letter, by text, or by both."""

import json
from random import Random

import pyarrow.parquet as pq
import pytest

from gmpo_vl.data.answers import LETTERS, encode_answer
from gmpo_vl.data.options import read_options
from gmpo_vl.verify import parse_gold, verify

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
    wrong = ["A", "AB", "A or D", "A, D, B", "ABD", "not A and D", "A, A", "AE", "A/B", "a", "da d"]
    for gold in ("AD", "A, D", "A and D"):
        assert accepted(gold, right + wrong) == set(right)
    spelled = ["AD", "A D", "A/D", "a, d", "ad", "(A)(D)", "A;D", "A、D", r"\text{AD}"]
    for gold in ("A, D", "A and D", encode_answer("A, D", type="text"), encode_answer("A, D", type="choice")):
        assert {a for a in spelled + wrong if verify(gold, rf"\boxed{{{a}}}").correct} == set(spelled)


# Options that are easily taken for one another: by value, order, sign, unit, words, letters inside them.
NEAR = (
    "3000, 4000|4000, 3000|3,000|3, 4|4, 3|(3, 4)|(4, 3)|[3, 4]|3:4|4:3|3/4|0.75|75%|-3|3|3^2|9|x = 3"
    "|x > 3|3 < x|x < 3|10 cm|10 m|0.1 m|100 mm|1,2,3|3,2,1|20-30|30-20|7:00 am|7:00 pm|\\frac{1}{2}"
    "|$\\frac{1}{12}$ turn|90°|90|red|blue|red and blue|blue and red|red or blue|not red|neither|yes"
    "|Yes, always|A and B|A, C|B only|none of these|a dog|dog|The dog is left of the cat."
    "|The cat is left of the dog.|It is wrong.|It is right.|C is correct|Solution B|A. Smith|B. King"
    "|I and II|II and III|②|①②|苹果|苹果和香蕉|True|AB|BA|3 cats|4 cats|less than 3|more than 3"
    "|A is taller than B|B is taller than A|Mango and cherry.|cherry and mango"
).split("|")


def forms_of(letter: str, text: str) -> list[str]:
    """What a model writes for an option: its letter, its letter with the text, the text."""
    forms = [
        letter,
        f"({letter})",
        f"{letter}. {text}",
        f"({letter}) {text}",
        f"{letter}: {text}",
        f"选{letter}",
    ]
    is_letter = len(text.strip("()")) == 1  # drawn in the picture, or it names another option
    return forms if is_letter else [*forms, text, rf"\text{{{text}}}", f"{text}。"]


def wrong_verdicts(options, gold: str, right: str) -> list[str]:
    return [
        form
        for letter, text in zip(LETTERS, options)
        for form in forms_of(letter, text)
        if verify(gold, rf"\boxed{{{form}}}").correct != (letter == right) and options.count(text) == 1
    ]


def test_every_form_of_every_option_of_mathvision_is_right_iff_it_is_the_gold(data_dir):
    source = data_dir / "mathvision_testmini" / "testmini.parquet"
    if not source.is_file():
        pytest.skip(f"no {source}")
    rows = pq.read_table(source, columns=["answer", "options"]).to_pylist()
    assert sum(bool(row["options"]) for row in rows) == 190
    for row in rows:
        options = read_options(row["options"])
        gold = encode_answer(row["answer"], type="choice" if options else None, choices=options)
        assert wrong_verdicts(options, gold, row["answer"]) == []


def test_every_form_of_near_options_is_right_iff_it_is_the_gold():
    draw = Random(4)
    for _ in range(150):
        options = draw.sample(NEAR, draw.randint(2, 5))
        right = draw.choice(LETTERS[: len(options)])
        assert wrong_verdicts(options, encode_answer(right, type="choice", choices=options), right) == [], (
            options
        )


def test_golds_of_others_lose_the_letters_of_their_options_once():
    texts = ["300", "4000, 3000", "3000, 4000", "It depends."]
    for style in ("{}. {}", "({}) {}", "{}:{}"):
        choices = [style.format(letter, text) for letter, text in zip(LETTERS, texts)]
        for gold in ("C", choices[2], "3000, 4000", "(c)"):
            text = json.dumps({"gold": gold, "choices": choices, "type": "choice"})
            assert list(parse_gold(text).choices) == texts
            assert wrong_verdicts(texts, text, "C") == []
    degrees = ["$30^\\circ$", "$90^\\circ$", "$45^\\circ$"]
    assert wrong_verdicts(degrees, json.dumps({"gold": 90, "choices": degrees}), "B") == []
    kept = ["A. Smith", "J. Smith"]
    assert parse_gold(json.dumps({"gold": "A", "choices": kept})).choices == tuple(kept)


def test_a_sentence_is_compared_without_spaces_case_and_marks():
    options = ["It can't be told “for certain”.", "The cat, not the dog", "A.  B is   taller", "不能确定"]
    said = [
        "it can't be told 'for certain'",
        'It can’t be told "for certain"!',
        "THE CAT, NOT THE DOG.",
        "The cat not the dog",
        "a. b is taller.",
        "“不能确定。”",
    ]
    rights = [accepted(letter, said, options) for letter in "ABCD"]
    assert rights == [{*said[:2]}, {*said[2:4]}, {said[4]}, {said[5]}]


def test_options_that_are_right_together_are_all_named_and_no_other():
    options = ["300", "4000, 3000", "3000, 4000", "red and blue"]
    right = [
        "B, D", "BD", "B D", "D, B", "B and D", "(B) and (D)", "Options B and D", "B and D are correct",
        "['B', 'D']", r"\{B, D\}", "选BD", "B、D", "4000, 3000; red and blue",
        "B. 4000, 3000; D. red and blue", "(B) 4000, 3000, (D) red and blue",
    ]  # fmt: skip
    wrong = [
        "B", "D", "B, C", "A, B, D", "ABCD", "B or D", "B/D", "B, B", "not B and D", "4000, 3000",
        "red and blue", "3000, 4000; red and blue", "B. 3000, 4000; D. red and blue", "300; B, D", "neither",
        "C. 4000, 3000; D. red and blue",
    ]  # fmt: skip
    for gold in ("B, D", "BD", "B and D"):
        text = encode_answer(gold, type="choice", choices=options)
        assert {a for a in right + wrong if verify(text, rf"\boxed{{{a}}}").correct} == set(right)
    alternatives = encode_answer(["B", "D"], type="choice", choices=options)  # any one of them
    assert [verify(alternatives, rf"\boxed{{{a}}}").correct for a in ("B", "D", "A")] == [True, True, False]
    unknown = encode_answer("B, D", type="choice")
    assert [verify(unknown, rf"\boxed{{{a}}}").correct for a in ("B, D", "BD", "B", "A, B")] == [
        True, True, False, False,
    ]  # fmt: skip


SHORT_OPTIONS = [
    ["dog", "cat", "ox"], ["a", "b", "c", "d"], ["m", "n", "p"], ["4.5", "x", "y"], ["I", "II", "III"],
    ["It is a cat", "a cat", "the cat"], ["not a cat", "a cat"], ["a", "an", "the"], ["H", "He", "Li"],
    ["x>1", "x<1", "x=1"], ["$5", "5 cents"], ["A and B", "B and C", "only A"], ["e", "pi"],
    ["TV", "PC", "UK"], ["50%", "25%", "5%"]
]  # fmt: skip
BEHIND = ["{} ({})", "{} [{}]", r"\text{{{} ({})}}", r"\text{{{}}} ({})", "{} (option {})", "{}. ({})",
         "{} ({}).",          r"{} \textbf{{({})}}", "{} ({{{}}})"]  # fmt: skip


@pytest.mark.parametrize("options", SHORT_OPTIONS, ids=str)
def test_a_text_and_its_letter_behind_it(options):
    for i, text in enumerate(options):
        for written in BEHIND:
            other = (i + 1) % len(options)
            gold = encode_answer("ABCD"[i], choices=options)
            right, wrong = written.format(text, "ABCD"[i]), written.format(text, "ABCD"[other])
            crossed = written.format(options[other], "ABCD"[i])
            assert [verify(gold, rf"\boxed{{{said}}}").correct for said in (right, wrong, crossed)] == [
                True, False, False,
            ], (right, wrong, crossed)  # fmt: skip


def test_money_after_a_letter_in_a_text_group():
    for letter, text in zip("AB", (r"\$5", "5 cents")):
        gold = encode_answer(letter, choices=["$5", "5 cents"])
        for written in (
            r"\text{%s. %s}",
            r"\text{(%s) %s}",
            r"\textbf{%s. %s}",
            r"%s. \text{%s}",
            r"\text{%s: }%s",
        ):
            assert verify(gold, r"\boxed{%s}" % (written % (letter, text))).correct, written
            assert not verify(gold, r"\boxed{%s}" % (written % ("BA"["AB".index(letter)], text))).correct
