"""What looks like the gold and is another quantity: letters in another case, "or" for "and", a time of day
for a quotient, an escaped sign for a column's.
"""

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.verify import verify


def accepted(gold, answers: list[str]) -> set[str]:
    return {answer for answer in answers if verify(gold, rf"\boxed{{{answer}}}").correct}


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("mgh", ["mhg", "$mgh$", "hgm"], ["MGH", "Mgh", "MgH", "mgH", r"\text{MGH}", "The answer is MGH",
                                          "M g h", r"\mathrm{MGH}", "MGH.", "mGh"]),
        ("MGH", ["$MGH$"], ["mgh", "Mgh", "HGM", "mgh."]),
        ("lwh", ["whl"], ["LWH", "Lwh", "LwH", "lw", "lwH"]),
        ("prt", ["rtp"], ["PRT", "Prt", "pr"]),
        ("abd", ["dab"], ["ABD", "Abd", "abD", "abe"]),
        ("bdfh", ["hfdb"], ["BDFH"]),
        ("2mgh", ["2hgm"], ["2MGH", "2Mgh", "mgh"]),
        ("pqr s", ["s pqr"], ["PQR S", "Pqr S", "pqr"]),
        ("mgh and k", ["mgh, k", "k, mgh"], ["MGH and K", "mgh", "mgh or k", "mgh and K"]),
        ("KLM", ["KLM."], ["klm", "MLK"]),
    ],
)  # fmt: skip
def test_the_letters_of_a_product_keep_their_case(gold, right, wrong):
    assert accepted(gold, right + wrong) == set(right)


@pytest.mark.parametrize("gold", ["bmw", "BBQ", "kfc", "sky", "dry fly", "gym", "mri scan", "ace", "beg"])
def test_a_word_without_a_vowel_is_a_word_in_any_case(gold):
    words = [gold.upper(), gold.lower()]
    turned = [gold[::-1], gold[1:] + gold[0], f"not {gold}"]
    assert accepted(gold, words + turned) == set(words)


AND = [
    "3 and 4",
    "4 and 3",
    "3, 4",
    r"3 \text{ and } 4",
    "3 \u548c 4",
    r"3 \land 4",
    "x = 3 or x = 4",
    r"\{3, 4\}",
]
OR = ["3 or 4", "4 or 3", r"3 \text{ or } 4", r"3\text{or}4", r"3 \lor 4", "either 3 or 4", "3 \u6216 4"]
PART = ["3", "4", "3 and 5", "3, 4, 5", "34", "3 and 4 and 5", "3 or 4 and 5", "not 3 and 4"]


def test_and_is_no_or():
    assert accepted("3 and 4", AND + OR + PART) == set(AND)
    assert accepted("3 or 4", AND[:6] + OR + PART) == {"3, 4", *OR} - {"either 3 or 4"}
    assert verify("3 and 4", r"\boxed{3 or 4}").outcome == "hedged"
    assert verify("3 or 4", r"\boxed{3 and 4}").outcome == "different"
    for one, other in (
        ("x and y", "x or y"),
        ("AB and CD", "AB or CD"),
        ("3 cm and 4 cm", "3 cm or 4 cm"),
        ("(1,2) and (3,4)", "(1,2) or (3,4)"),
        ("1, 2 and 3", "1, 2 or 3"),
        ("x=3 and y=4", "x=3 or y=4"),
        (r"\frac12 \text{ and } 3", r"0.5 \text{ or } 3"),
    ):
        assert accepted(one, [one, other]) == {one}
        assert accepted(other, [one, other]) == {other}


def test_solutions_and_intervals_are_listed_with_either_word():
    for gold in ("3, 4", "x=3 or x=4", r"\{3, 4\}", r"\frac{7 \pm 1}{2}"):
        assert accepted(gold, ["x=3 and x=4", "x=3 or x=4"]) == {"x=3 and x=4", "x=3 or x=4"}
    intervals = [r"(-\infty,1) or (4,\infty)", r"(-\infty,1) and (4,\infty)"]
    assert accepted(intervals[0], intervals) == set(intervals)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("1/3", ["1:3", "2/6", "20:60"], ["10:30", "1:03", "5:15", "4:12", r"\text{10:30}", "x = 10:30",
                                          "10:30 am"]),
        ("0.5", ["1:2", "1/2"], ["10:20", "6:12", "5:10"]),
        ("2", ["2", "2:1"], ["20:10", "2:01", "24:12"]),
        ("10:30", ["10:30", "10:30 am"], ["1/3", "1:3", "0.333333333333", "10.30", "10:03", "11:30", "30:10",
                                           r"\frac13", "33\\frac13\\%"]),
        ("20:10", ["20:10"], ["2", "2:1", "200%"]),
        ("5/12", ["5:12", r"\frac{5}{12}"], ["12:5", "5:13", "12/5", "15:36"]),
        ("5:12", ["5/12", "5:12"], ["12:5", "10:24"]),
    ],
)  # fmt: skip
def test_a_time_of_day_is_no_quotient(gold, right, wrong):
    assert accepted(gold, right + wrong) == set(right)


def test_an_escaped_ampersand_parts_no_cells():
    for kind in ("pmatrix", "bmatrix", "vmatrix"):
        row = rf"\begin{{{kind}}}1 & 2\end{{{kind}}}"
        table = rf"\begin{{{kind}}}1 & 2\\3 & 4\end{{{kind}}}"
        assert accepted(row, [row.replace(" & ", "&"), row.replace("&", r"\&"), row.replace("&", r"\\")]) == {
            row.replace(" & ", "&")
        }
        wrong = [table.replace("&", r"\&"), table.replace("& 4", r"\& 4"), table.replace("1 &", r"1 \&")]
        assert accepted(table, [table, *wrong]) == {table}
    assert accepted("R&D", [r"R\&D", r"\text{R\&D}"]) == {r"R\&D", r"\text{R\&D}"}


def test_the_number_of_a_place_is_taken_for_the_place():
    """The default grader does not know whether a count or a place is asked for; type text does."""
    assert accepted("3", ["3rd", r"3^{\text{rd}}", "3th", "4th", "1/3rd", "23rd"]) == {
        "3rd",
        r"3^{\text{rd}}",
    }
    assert accepted("3rd", ["3", "3rd", "1/3", "third part", "3 rd of May"]) == {"3", "3rd"}
    assert accepted("1/3", ["3rd", "third", "1/3rd"]) == set()
    assert accepted(encode_answer("3", type="text"), ["3rd", "third", "3"]) == {"3"}


@pytest.mark.parametrize("kind", [None, "text", "choice"])
def test_none_is_not_none_of_these(kind):
    wrong = ["none of these", "None of the above", "none of them", "one", "no", "not none", "0"]
    assert accepted(encode_answer("none", type=kind), ["none", "None.", *wrong]) == {"none", "None."}
    assert accepted(encode_answer("none of these", type=kind), ["none", "None of these"]) == {"None of these"}


def test_a_letter_stands_before_what_is_no_counted_noun():
    def choice(*options: str) -> str:
        return encode_answer("B", choices=list(options))

    for other, text in (
        ("red", "blue"),
        ("black", "dark blue"),
        ("taller", "shorter"),
        ("south", "north"),
        ("milk", "water"),
        ("one", "two"),
        ("walking", "running"),
        ("happy", "sad"),
        ("x", "y"),
        ("Up", "Down"),
    ):
        wrong = [
            f"A {text}",
            f"a {text}",
            f"It's a {text}",
            rf"\text{{A {text}}}",
            f"{text} (A)",
            f"A. {text}",
        ]
        right = [text, f"B {text}", f"B. {text}", f"{text} (B)"]
        assert accepted(choice(other, text, "frog"), right + wrong) == set(right)
    assert accepted(choice("red", "blue car"), ["A blue car", "a blue car"]) == {"A blue car", "a blue car"}
    assert accepted(choice("red", "a blue"), ["A blue", "a blue"]) == {
        "A blue",
        "a blue",
    }  # the option's own text


DENIALS = ["not", "no", "nor", "non", "half", "less", "more", "over", "never", "twice", "if", "than", "none"]


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("5", "x = 5"),
        ("x=5", "x=5"),
        ("7", "3+4=7"),
        ("2x", "y = 2x"),
        ("4x-5y=-50", "4x-5y=-50"),
        ("60", "3 boxes * 20 pens/box = 60 pens"),
        ("x=1, y=2", "x=1, y=2"),
    ],
)
def test_what_is_denied_or_changed_is_not_said(gold, said):
    led = [f"{word} {said}" for word in DENIALS]
    led += [f"The answer is not {said}", f"about half of {said}", f"the opposite of {said}", f"near {said}"]
    signs = [f"!= {said}", rf"\neq {said}", f"< {said}", rf"\text{{not }} {said}"]
    wrong = [*led, *signs, f"{said} is wrong", f"{said} or 17", f"{said}, 17"]
    assert accepted(gold, [said, f"The answer is {said}", *wrong]) == {said, f"The answer is {said}"}


def test_words_that_lead_to_a_sum_may_count():
    led = [
        "The total of two boxes is 3 * 20 = 60",
        "the product is 3 * 20 = 60",
        "9 big + 51 small = 9 + 51 = 60",
    ]
    assert accepted("60", led) == set(led)


def test_single_digits_of_a_text_are_no_letters_of_options():
    def gold(text: str) -> str:
        return encode_answer(text, type="text")

    assert accepted(gold("0.5, 0.6"), ["0.5,0.6", "0.0, 5.6", "0.6, 0.5", "5.0, 6.0"]) == {"0.5,0.6"}
    assert accepted(gold("1, 2"), ["1, 2", "1 and 2", "2, 1", "12", "1"]) == {"1, 2", "1 and 2"}
    assert accepted(gold("(0,5)"), ["(0, 5)", "(5,0)", "(0,6)"]) == {"(0, 5)"}
    assert accepted(gold("A, C"), ["C, A", "A and C", "A", "A, D"]) == {"C, A", "A and C"}
