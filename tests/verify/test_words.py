"""Words, lists of words, and marks between digits: what says something and what does not."""

import pytest

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.verify import verify


def accepted(gold, answers: list[str]) -> set[str]:
    return {answer for answer in answers if verify(gold, rf"\boxed{{{answer}}}").correct}


def test_a_word_that_can_lead_to_an_answer_can_be_one():
    for gold in ("是", "有", "为", "答案", "一共"):
        right = [gold, f"{gold}。", f"{gold}.", f"**{gold}**", rf"\text{{{gold}}}"]
        assert accepted(gold, [*right, f"没{gold}。", "否。", "是12", "12"]) == set(right)
    assert accepted("12", ["答案是12。", "是12。", "是。", "答案是。"]) == {"答案是12。", "是12。"}


def test_a_short_option_is_read_in_any_case_where_no_other_one_equals_it():
    def gold(letter: str, *options: str) -> str:
        return encode_answer(letter, choices=list(options))

    right = ["up", "UP", "A. up", "(A) up", r"\text{up}"]
    wrong = ["down", "B. up", "A. down", "pu", "u p", "up or down"]
    assert accepted(gold("A", "Up", "Down", "On"), right + wrong) == set(right)
    assert accepted(gold("A", "mL", "kL"), ["ml", "A. ml", "kl", "B. ml"]) == {"ml", "A. ml"}
    assert accepted(gold("B", "CO", "Co", "O2"), ["Co", "B. Co", "CO", "co", "cO", "A. co"]) == {
        "Co",
        "B. Co",
    }
    assert accepted(gold("A", "AB", "BC", "AC"), ["ab", "bc", "ac", "A, B"]) == {"ab"}
    # an open gold may be a symbol
    assert accepted("Up", ["up", "UP", "pu", "U"]) == {"up", "UP"}
    assert accepted("CT", ["ct", "TC"]) == {"ct"}
    for symbol, other in (("CO", "Co"), ("Co", "co"), ("mL", "ml"), ("Mg", "mg"), ("MW", "mW")):
        assert accepted(symbol, [symbol, other]) == {symbol}


def test_a_letter_and_its_text_are_read_inside_a_text_group():
    gold = encode_answer("C", choices=["35°", "55°", "145°", "½"])
    right = [r"\text{C. 145°}", r"\text{(C) 145°}", r"\text{C: $145^{\circ}$}", r"\textbf{(C) 145°}"]
    wrong = [r"\text{B. 145°}", r"\text{C. 35°}", r"\text{(D) 145°}", r"\text{C. 145° or D}", r"\text{D. ½}"]
    assert accepted(gold, right + wrong) == set(right)


@pytest.mark.parametrize("kind", [None, "text", "choice"])
def test_a_list_of_words_is_joined_by_any_mark_and_three_have_no_order(kind):
    def gold(text: str) -> str:
        return encode_answer(text, type=kind)

    right = ["heart, liver, spleen", "liver, heart and spleen", "Spleen, Liver, and Heart"]
    wrong = ["liver, heart", "liver, heart or spleen", "liver, heart, kidney", "liver, heart, not spleen"]
    assert accepted(gold("liver, heart, spleen"), right + wrong) == set(right)
    right = ["心脏、肝脏、脾", "肝脏、心脏和脾", "肝脏,心脏,脾。"]
    assert accepted(gold("肝脏、心脏、脾"), [*right, "肝脏、心脏", "肝脏、心脏或脾", "脾、脾、肝脏"]) == set(
        right
    )
    assert accepted(gold("increase, decrease"), ["decrease, increase"]) == set()
    assert accepted(gold("north, then east, then south"), ["north, then south, then east"]) == set()
    assert accepted(gold("yes, no, maybe"), ["no, yes, maybe"]) == set()
    assert accepted(gold("增大、不变、减小"), ["减小、不变、增大"]) == set()
    assert accepted(gold("Co, Ni, Fe"), ["Ni, Fe, Co", "Ni, Fe"]) == {"Ni, Fe, Co"}


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("1.5", ["1.5."], ["1-5", "1,5", "1:5", "1 5", "15"]),
        ("3:45", ["3:45."], ["3.45", "3-45", "3 45"]),
        ("1,200", ["1,200"], ["1.200", "1:200", "1-200"]),
        ("2, 3", ["2,3"], ["2.3", "2:3", "2-3"]),
        ("(555) 123-4567", ["555-123-4567", "555 123 4567"], ["555.123.4567", "555:123-4567"]),
        ("10:30 a.m.", ["10:30 am"], ["10.30 am"]),
        ("v1.2.3", ["V1.2.3"], ["v1.2-3", "v1.23"]),
    ],
)
def test_marks_between_digits_are_no_mere_marks(gold, right, wrong):
    assert accepted(encode_answer(gold, type="text"), right + wrong) == set(right)


@pytest.mark.parametrize("kind", [None, "choice", "text"])
def test_a_function_is_no_product(kind):
    for gold, wrong in (("O(n)", ["On", "nO", r"O \cdot n"]), ("O(n+m)", ["On+Om"]), ("f(x)", ["fx", "xf"])):
        assert accepted(encode_answer(gold, type=kind), [f"${gold}$", *wrong]) == {f"${gold}$"}
    assert accepted("a(b+c)", ["ab+ac"])


SHORT = {
    "tv": ["TV", "Tv", r"\text{TV}", "TV."],
    "TV": ["tv"],
    "up": ["Up", "UP", "The answer is Up"],
    "x-ray": ["X-ray", "X-Ray", "X-RAY"],
    "wi-fi": ["Wi-Fi"],
    "e-mail": ["E-mail"],
    "7up": ["7UP"],
    "7 up": ["7 Up"],
    "bmw": ["BMW"],
    "BMW": ["bmw"],
    "bbq": ["BBQ"],
    "uk": ["UK"],
}


@pytest.mark.parametrize("gold", SHORT)
def test_a_short_word_is_the_same_in_any_case(gold):
    turned = gold[::-1]
    assert accepted(gold, [*SHORT[gold], f"not {gold}", f"{gold} or b"]) == set(SHORT[gold])
    as_text = encode_answer(gold, type="text")
    assert accepted(as_text, [*SHORT[gold], turned]) == set(SHORT[gold])


def test_letters_that_may_be_symbols_keep_their_case_and_commute():
    assert accepted("AP", ["PA", "ap", "pa", "Ap"]) == {"PA"}
    assert accepted("ab", ["ba", "AB", "Ab"]) == {"ba"}
    assert accepted("ma", ["am", "MA", "Ma"]) == {"am"}
    others = (("a", "A"), ("2a", "2A"), ("3d", "3D"), ("mgh", "Mgh"), ("xyz", "XYZ"), ("abc", "ABC"),
              ("mv^2", "MV^2"), ("ad-bc", "AD-BC"), (r"\emptyset", r"\{\emptyset\}"))  # fmt: skip
    for gold, wrong in others:
        assert accepted(gold, [gold, wrong]) == {gold}


def test_the_letters_of_a_text_are_no_symbols():
    for gold, right, wrong in (
        ("AP", ["ap", "AP."], ["PA"]),
        ("ma", ["Ma", "MA"], ["am"]),
        ("3d", ["3D"], ["2d", "d3", "3"]),
        ("hp", ["HP"], ["ph"]),
        ("4k", ["4K"], ["4000"]),
    ):
        assert accepted(encode_answer(gold, type="text"), right + wrong) == set(right)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "2",
            ["two", "Two", "2.0", r"\text{two}", "2 cats"],
            ["twelve", "20", "2 or 3", "not two", "second"],
        ),
        ("two", ["2", "2.0"], ["12", "to", "too"]),
        ("21", ["twenty-one", "twenty one", "Twenty-One"], ["twenty", "20 1", "201"]),
        ("thirteen", ["13"], ["30", "3"]),
        ("20 5", [], ["twenty-five", "25"]),
        ("two dogs", ["2 dogs"], ["2", "3 dogs"]),
        ("1,000", ["1000", "1,000"], ["1.000", "1 000 000", "100"]),
        ("1000", ["1,000"], ["1.000"]),
        ("50%", ["50 percent", r"50\%"], ["5%", "0.5%"]),
        ("5 cm", ["5 centimeters", "5cm"], ["5 m", "6 cm"]),
        ("$5", [r"\$5", "5 dollars"], ["5 cents", "$6"]),
        ("5th", ["5th"], ["4th"]),
    ],
)
def test_a_number_in_a_text_is_a_number(gold, right, wrong):
    assert accepted(encode_answer(gold, type="text"), right + wrong) == set(right)


def test_number_words_up_to_ninety_nine_are_numbers():
    words = {"13": "thirteen", "19": "Nineteen", "20": "twenty", "21": "twenty-one", "99": "ninety nine"}
    for gold, word in words.items():
        assert accepted(gold, [word, "eleven"]) == {word}
        assert accepted(word, [gold, "11"]) == {gold}


ESCAPED = [
    ("snow_board", r"snow\_board"),
    ("user_name_1", r"user\_name\_1"),
    ("a_b", r"a\textunderscore b"),
    ("R&D", r"R\&D"),
    ("50%", r"50\%"),
    ("100% cotton", r"100\% cotton"),
    ("C#", r"C\#"),
    ("#1", r"\#1"),
    ("7:30", "7{:}30"),
    ("3~4", r"3\textasciitilde 4"),
    ("a < b or c", r"a \textless b or c"),
]


@pytest.mark.parametrize(("plain", "escaped"), ESCAPED)
def test_signs_that_latex_escapes_are_the_same_signs(plain, escaped):
    for gold, answer in ((plain, escaped), (escaped, plain)):
        for kind in (None, "text"):
            assert accepted(encode_answer(gold, type=kind), [answer, rf"\text{{{answer}}}"])
        choices = encode_answer("A", choices=[gold, "other"])
        right = {answer, f"A. {answer}", rf"\text{{A. {answer}}}", rf"\text{{{answer}}} (A)"}
        assert accepted(choices, [*right, f"B. {answer}", rf"\text{{B. {answer}}}"]) == right
    assert not accepted("R&D", ["RD", "R&B"])
    assert not accepted("50%", ["5%"])
    assert not accepted("7:30", ["7{.}30", "730", "7{:}31"])
    matrix = r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"
    assert accepted(matrix, [matrix.replace("&", " & "), matrix.replace("4", "5")]) == {
        matrix.replace("&", " & ")
    }


def test_yes_and_no_are_read_as_words_where_the_gold_is_a_text():
    said = {
        "Yes": ["yes.", "Yes, it is larger.", r"\text{Yes}, it is", "Yes!", "yes; the left one"],
        "No": ["NO", "No, it is not.", r"\text{No, the left one}", "No: 3 of 4"],
    }
    neither = ["Yes and no", "Yes, no", "No. Yes.", "Yes, or no.", "Not", "None", "No one", "Yesterday", "1"]
    everything = [*said["Yes"], *said["No"], *neither]
    for word, right in said.items():
        assert accepted(encode_answer(word, type="text"), everything) == set(right)
    assert accepted("Yes", ["Yes, it is larger."]) == set(), "other golds are read as ever"
