"""Options in every form in which data sets write them, shown once; the answers that name one, or several."""

import json
from itertools import combinations, zip_longest
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest

from gmpo_vl.data.answers import LETTERS
from gmpo_vl.data.convert import convert
from gmpo_vl.data.letters import without_letters
from gmpo_vl.data.map_row import map_row
from gmpo_vl.data.mapping import MappingFile, load_mapping
from gmpo_vl.data.options import read_options
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.data.sources import open_tables
from gmpo_vl.verify import parse_gold, verify

POOL = (
    "300 | 4000, 3000 | 3000, 4000 | 90° | No correct answer | a dog | A. Smith | B. King | either A or B"
    " | 1:2 | It depends. | $\\frac{1}{2}$ turn | x > 3 | (3, 4) | [3, 4) | II and III | 苹果和香蕉 | ①②"
    " | Yes: always | 0.5 | -2 | the cat (left) | {1, 2} | 25% | true | C"
).split(" | ")
SEPARATED = [text for text in POOL if not set(",;") & set(text) and text[1:2] != "."]  # fit for one text


def lettered(style, texts):
    return [style.format(letter, text) for letter, text in zip(LETTERS, texts)]


STYLES = ("{}. {}", "{}: {}", "{}:{}", "({}) {}", "{}) {}", "{}、{}", "{}．{}", "**{}.** {}",
          r"\textbf{{({})}}\ {}", "Option {}: {}", "（{}）{}")  # fmt: skip
STRUCTURES = {
    "list": list,
    "tuple": tuple,
    "array": lambda texts: np.array(texts, dtype=object),
    "json": json.dumps,
    "python": repr,
    "numpy": lambda texts: str(np.array(texts)),
    "repr of numpy": lambda texts: repr(np.array(texts, dtype=object)),
    "dict": lambda texts: dict(zip(LETTERS, texts)),
    "turned dict": lambda texts: dict(reversed(list(zip(LETTERS, texts)))),
    "struct": lambda texts: dict(zip_longest(("option_a", "option_b", *"cdefgh"), texts)),
    "json dict": lambda texts: json.dumps(dict(zip(LETTERS, texts))),
    "label and text": lambda texts: {"text": texts, "label": list(LETTERS[: len(texts)])},
    "numbered": lambda texts: {"text": np.array(texts), "label": np.array(list("123456")[: len(texts)])},
    "list of dicts": lambda texts: [{"label": a, "text": text} for a, text in zip(LETTERS, texts)][::-1],
    "key and value": lambda texts: [{"key": a, "value": text} for a, text in zip(LETTERS, texts)],
    "option and content": lambda texts: [{"option": a, "content": text} for a, text in zip(LETTERS, texts)],
    "single dicts": lambda texts: [{a: text} for a, text in zip(LETTERS, texts)],
    "pairs": lambda texts: [[a, text] for a, text in zip(LETTERS, texts)],
    "ends in nothing": lambda texts: [*texts, None, "", float("nan")],
}  # fmt: skip


def mapping(tmp_path, **values) -> MappingFile:
    given = {"folder": tmp_path, "source": "x", "problem": "q", "answer": "a", "choices": "o"}
    return MappingFile(**{**given, **values})


def test_every_structure_and_every_style_of_letters_gives_the_texts():
    draw = Random(1)
    for _ in range(40):
        texts = draw.sample(POOL, draw.randint(2, 6))
        if without_letters(texts) != texts:
            continue  # A. Smith, B. King in this order look like letters to anybody
        for name, structure in STRUCTURES.items():
            assert read_options(structure(texts)) == texts, name
        for style in STYLES:
            assert read_options(lettered(style, texts)) == texts, style
            assert read_options(json.dumps(lettered(style.lower(), texts))) == texts, style
        assert read_options("\n".join(texts)) == texts


def test_one_text_is_parted_at_its_letters():
    draw = Random(2)
    for _ in range(40):
        texts = draw.sample(SEPARATED, draw.randint(2, 6))
        for style in STYLES:
            for between in ("; ", "\n", ", ", " | ", "   "):
                text = between.join(lettered(style, texts))
                assert read_options(text) == texts, text
                if between == "\n":
                    below = f"See A. Then B. is what?\nChoices:\n{text}\nAnswer with the letter."
                    assert read_options(below) == texts, below
        assert read_options("".join(lettered("({}){}", texts))) == texts
    assert read_options("A. 90°; B. 45°; C. 30°; D. No correct answer")[3] == "No correct answer"  # We-Math
    assert read_options(r"$\textbf{(A)}\ 4\qquad\textbf{(B)}\ 5\qquad\textbf{(C)}\ 6$") == ["4", "5", "6"]


@pytest.mark.parametrize(
    "texts",
    [
        ["A. Smith", "J. Smith", "B. King"],
        ["A. Smith", "C. King"],
        ["A.D.", "B.C."],
        ["(A) and (B)", "(B) and (C)"],
        ["1.5", "2.5", "3.5"],
        ["1: 2", "2: 2"],
        ["①②", "②③"],
        ["(1) and (2)", "(2) and (3)"],
        ["A", "B", "D", "F", "G"],
        ["A-B", "B-C", "C-D"],
        ["a dog", "b dog"],
    ],
)
def test_a_text_that_only_looks_lettered_stays(texts):
    assert read_options(texts) == texts


def test_letters_drawn_in_the_picture_are_shown_once(tmp_path):
    for drawn in (
        list("ABCDE"),
        ["(A)", "(B)", "(C)", "(D)", "(E)"],
        ["A)", "B)", "C)", "D)", "E)"],
        "A, B, C, D, E",
    ):
        mapped = map_row({"q": "Which point a. is it?", "a": "C", "o": drawn}, mapping(tmp_path))
        assert mapped["problem"] == "Which point a. is it?\nA\nB\nC\nD\nE"
        assert verify(mapped["answer"], r"\boxed{(C)}").correct
    marks = mapping(tmp_path, image_marks="<image{n}>", image_place="front")
    row = {"q": "Which?", "a": "B", "o": ["<image2>", "<image3>", "neither"]}
    assert map_row(row, marks)["problem"] == "Which?\nA\nB\nC. neither"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("red, green", "template can part them"),
        (7, "type int"),
        (["a", None, "b"], "choice 2 is empty"),
        ({"A": "x", "B": None, "C": "y"}, "choice B is empty"),
        ({"A": "x", "C": "y"}, "without a gap"),
        ({"first": "x", "other": "y"}, "not A, B"),
        ([{"colour": 1, "size": 2}, {"colour": 2, "size": 2}], "type dict"),
        ([b"x", b"y"], "choice 1 is a picture: name the columns of pictures in `images`"),
        ([{"bytes": b"x", "path": None}] * 2, "choice 1 is a picture"),
        (["a.png", "b.JPG"], "choice 1 is a picture"),
        ([["red", "blue"], ["x", "y"]], "type list"),
        ([[1, 2], [3, 4], [5, 6], [7, 8]], "type list"),
        ("[[1,2],[3,4]]", "type list"),
        ("[(0,1),(1,0),(2,3),(3,2)]", "type tuple"),
        ([["A", "B"], ["B", "C"], ["C", "A"]], "type list"),
        ([["x", "y"], ["y", "x"]], "type list"),
        ([["1", "x"], ["2", "y"]], "type list"),
        ({"label": ["A"], "text": ["x", "y"]}, "1 labels for 2"),
        ("A. Vitamin B. B. Vitamin C. C. Vitamin D", "B stands twice"),
        (["a"] * 27, "more than there are letters"),
        (["A. x; B. y"], "the only choice"),
        ("[" * 5000, "no list"),
    ],
)
def test_what_is_no_options_is_said(tmp_path, value, said):
    with pytest.raises(RowError, match=said) as error:
        map_row({"q": "x?", "a": "A", "o": value}, mapping(tmp_path))
    assert error.value.reason == "choices"


MATHVERSE = "As shown, find ∠2.\nChoices:\nA:145°\nB:35°\nC:55°\nD:65°"
COLUMNS = ["A", "B", "C", "D"]
LAYOUTS = {  # mapping, row, texts, right letters, whether the problem shows the options itself
    "MathVision": ({}, {"q": "x?", "o": ["9 cm", "8 cm"], "a": "B"}, ["9 cm", "8 cm"], "B", False),
    "MathVerse": ({"choices": "q"}, {"q": MATHVERSE, "a": "B"}, ["145°", "35°", "55°", "65°"], "B", True),
    "We-Math": ({}, {"q": "x?", "o": "A. 90°; B. 45°; C. No correct answer", "a": "C"},
                ["90°", "45°", "No correct answer"], "C", False),
    "LogicVista": ({}, {"q": "Which fit?", "o": "A, B, C, D", "a": "B, D"}, COLUMNS, "BD", False),
    "PuzzleVQA": ({}, {"q": "x?", "o": ["8", "3", "6", "1"], "a": "8"}, ["8", "3", "6", "1"], "A", False),
    "GeoQA": ({"answer_is": "index"}, {"q": "x?", "o": ["3", "6", "1"], "a": 1}, ["3", "6", "1"], "B", False),
    "AI2D": ({"answer_is": "index"}, {"q": "x?", "o": ["sun", "ice"], "a": "1"}, ["sun", "ice"], "B", False),
    "MMBench": ({"choices": COLUMNS}, {"q": "x?", "A": "x", "B": "y", "C": np.nan, "D": "nan", "a": "B"},
                ["x", "y"], "B", False),
    "ARC": ({}, {"q": "x?", "o": {"text": ["w", "x", "y"], "label": ["1", "2", "3"]}, "a": "3"},
            ["w", "x", "y"], "C", False),
    "SEED-Bench": ({"choices": ["choice_a", "choice_b"]},
                   {"q": "x?", "choice_a": "w", "choice_b": "x", "a": "A"}, ["w", "x"], "A", False),
    "MMMU": ({}, {"q": "x?", "o": "['$6', \"the 'right'\"]", "a": "B"}, ["$6", "the 'right'"], "B", False),
    "chat": ({"choices": "q"}, {"q": "x?\n(A) left (B) right (C) (A) or (B)", "a": "(C) (A) or (B)"},
             ["left", "right", "(A) or (B)"], "C", True),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_public_layouts(tmp_path, name):
    keys, row, texts, letters, shows = LAYOUTS[name]
    mapped = map_row(row, mapping(tmp_path, **keys))
    gold = parse_gold(mapped["answer"])
    assert list(gold.choices) == texts
    assert gold.alternatives == (", ".join(letters),)
    assert verify(mapped["answer"], rf"\boxed{{{letters}}}").correct
    lines = [letter if text == letter else f"{letter}. {text}" for letter, text in zip(LETTERS, texts)]
    assert mapped["problem"] == "\n".join([row["q"], *(() if shows else lines)])


def test_a_row_without_options_is_a_free_answer_unless_it_must_be_a_choice(tmp_path):
    for nothing in (None, "", "[]", [], {}, {"A": None, "B": ""}):
        row = {"q": "x?", "a": "6", "o": nothing}
        assert map_row(row, mapping(tmp_path))["answer"] == "6"
        with pytest.raises(RowError, match="no choices"):
            map_row(row, mapping(tmp_path, answer_type="choice"))


def test_a_problem_that_shows_no_options_has_none(tmp_path):
    given = mapping(tmp_path, choices="q")
    free = {"q": "Find x at A. Then\nB. is what?\nGive it in cm.", "a": "5"}
    assert map_row(free, given) == {"problem": free["q"], "answer": "5", "images": []}
    with pytest.raises(RowError, match="no list"):  # a column of options holds no question
        map_row({"q": "x?", "o": free["q"], "a": "5"}, mapping(tmp_path))


def test_choices_that_the_problem_shows_are_not_written_again(tmp_path):
    draw = Random(3)
    for _ in range(30):
        texts = draw.sample(SEPARATED[:-1], 4)
        for style in STYLES[:7]:
            shown = "Which one?\n" + "\n".join(lettered(style, texts))
            assert map_row({"q": shown, "a": "B", "o": texts}, mapping(tmp_path))["problem"] == shown
            turned = "Which one?\n" + "\n".join(lettered(style, texts[::-1]))
            with pytest.raises(RowError, match="not under the letters"):
                map_row({"q": turned, "a": "B", "o": texts}, mapping(tmp_path))
        mentioned = f"Is it {' or '.join(texts)}?"
        written = map_row({"q": mentioned, "a": "B", "o": texts}, mapping(tmp_path))["problem"]
        assert written.startswith(mentioned)
        assert written.count("\n") == 4


def test_an_answer_names_its_option_in_any_form(tmp_path):
    texts = ["300 g", "4000, 3000", "3000, 4000", "It depends."]
    row = {"q": "x?", "o": texts}
    for place, (letter, text) in enumerate(zip(LETTERS, texts)):
        forms = {
            "letter": [
                letter,
                letter.lower(),
                f"{letter}.",
                f"({letter})",
                f"Option {letter}",
                f"{letter}. {text}",
            ],
            "index": [place, str(place), float(place), np.int64(place), f"{place}.0"],
            "number": [place + 1, str(place + 1), f"{place + 1}.0"],
            "text": [text, f" {text}", text.upper(), text.rstrip("."), f"({letter}) {text}"],
        }
        for form, answers in forms.items():
            for answer in answers:
                told = map_row({**row, "a": answer}, mapping(tmp_path, answer_is=form))["answer"]
                assert parse_gold(told).alternatives == (letter,), answer
                if form in ("letter", "text"):
                    assert map_row({**row, "a": answer}, mapping(tmp_path))["answer"] == told
                    continue
                with pytest.raises(RowError, match=r"as (index|number) .*; answer_is says") as error:
                    map_row({**row, "a": answer}, mapping(tmp_path))
                assert error.value.reason == "answer_choice"
    for wrong in ("E", "5", "A. 3000, 4000", "salt", "A or B", "1.5", ["A", "A"], {"x": 1}):
        with pytest.raises(RowError, match="none of 4 choices"):
            map_row({**row, "a": wrong}, mapping(tmp_path))
    with pytest.raises(RowError, match="as letter E, as text B; answer_is says"):
        map_row({"q": "x?", "o": list("KENGU"), "a": "E"}, mapping(tmp_path))
    with pytest.raises(RowError):
        map_row({"q": "x?", "o": ["15", "18", "18"], "a": "18"}, mapping(tmp_path, answer_is="text"))


def test_a_number_never_counts_options_that_were_put_in_order(tmp_path):
    items = [{"label": "B", "text": "blue"}, {"label": "A", "text": "red"}, {"label": "C", "text": "green"}]
    for options in (
        items,
        {"B": "blue", "A": "red", "C": "green"},
        [["B", "blue"], ["A", "red"], ["C", "green"]],
    ):
        for form, answer in (("index", 0), ("index", 2), ("number", 1), ("auto", 1)):
            with pytest.raises(RowError, match="another order than their labels"):
                map_row({"q": "x?", "a": answer, "o": options}, mapping(tmp_path, answer_is=form))
        row = {"q": "x?", "a": "B", "o": options}
        assert parse_gold(map_row(row, mapping(tmp_path))["answer"]).alternatives == ("B",)
        assert read_options(options) == ["red", "blue", "green"]
    numbered = [{"label": "2", "text": "blue"}, {"label": "1", "text": "red"}]
    row = {"q": "x?", "a": 2, "o": numbered}
    assert parse_gold(map_row(row, mapping(tmp_path))["answer"]).alternatives == ("B",)


@pytest.mark.parametrize(
    "options", [["1. red", "2. green", "3. blue"], "(1) red (2) green (3) blue", "① red\n② green\n③ blue"]
)
def test_numbers_in_front_of_texts_do_not_say_how_answers_count(tmp_path, options):
    assert read_options(options) == ["red", "green", "blue"]
    for answer in (1, "2"):
        with pytest.raises(RowError, match="answer_is says"):
            map_row({"q": "x?", "a": answer, "o": options}, mapping(tmp_path))
    for form, answer in (("index", 0), ("number", 1)):
        row = {"q": "x?", "a": answer, "o": options}
        assert parse_gold(map_row(row, mapping(tmp_path, answer_is=form))["answer"]).alternatives == ("A",)


def test_a_question_below_its_choices_is_no_part_of_the_last_one(tmp_path):
    for shown in ("A. x\nB. y\nC. z", "(1) x\n(2) y\n(3) z"):
        assert read_options(f"{shown}\nWhich is right?") == ["x", "y", "z"]
    assert read_options("A. x; B. y; C. z\nof two lines") == ["x", "y", "z\nof two lines"]


def test_choices_are_found_in_a_problem_in_any_spelling(tmp_path):
    options = ["*x", "A. Smith", "$1\\frac{1}{2}$", "STRASSE İ", ".5 m", "30"]
    problem = "Q?\nA. *x\n(b) **A. smith**\nC) $1 \\frac{1}{2}$\nD. strasse İ\nE. $.5$ m\nF、 30 B. "
    row = {"q": problem, "a": "B", "o": options}
    assert map_row(row, mapping(tmp_path))["problem"] == problem.strip()
    for other in (problem.replace(" 30", " 301"), problem.replace(" 30", " 30.5"), problem.replace("x", "y")):
        assert map_row({**row, "q": other}, mapping(tmp_path))["problem"].endswith("\nF. 30")


def test_several_right_options_are_a_set_from_the_row_to_the_verdict(tmp_path):
    texts = ["300 g", "4000, 3000", "It depends.", "red and blue"]
    subsets = [places for size in (1, 2, 3, 4) for places in combinations(range(4), size)]
    for right in subsets[4:]:
        letters, named = [LETTERS[i] for i in right], [texts[i] for i in right]
        forms = [", ".join(letters), "".join(letters), letters, json.dumps(letters), " and ".join(letters)]
        forms += [named, np.array(letters)]
        answers = {map_row({"q": "x?", "o": texts, "a": a}, mapping(tmp_path))["answer"] for a in forms}
        assert len(answers) == 1
        (gold,) = answers
        for said in subsets:
            ls, ts = [LETTERS[i] for i in said], [texts[i] for i in said]
            both = [f"{a}. {t}" for a, t in zip(ls, ts)]
            for answer in (", ".join(ls), "".join(ls), " and ".join(f"({a})" for a in ls), "; ".join(ts),
                           "; ".join(both), ", ".join(reversed(both)), str(ls)):  # fmt: skip
                assert verify(gold, rf"\boxed{{{answer}}}").correct == (said == right), (right, answer)
        assert not verify(gold, rf"\boxed{{{' or '.join(letters)}}}").correct


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("answer_type: choice", "answer_type: choice needs `choices`"),
        ("answer_type: math\nchoices: o", "nothing reads them"),
        ("choices: '{{ o'", "choices: '{{ o' is no jinja template"),
    ],
)
def test_a_mapping_that_cannot_make_choices_is_refused(tmp_path, lines, said):
    path = tmp_path / "m.yaml"
    path.write_text(f"source: a\nproblem: q\nanswer: a\n{lines}\n", encoding="utf-8")
    with pytest.raises(DataError, match=said):
        load_mapping(path)


def test_classes_are_read_by_their_names(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    columns = {"q": ["x?", "y?"], "o": [["cat", "dog"]] * 2, "a": [1, 0], "kind": [[0, 1], []], "n": [3, 4]}
    kind = ClassLabel(names=["easy", "hard"])
    texts, animal = Sequence(Value("string")), ClassLabel(names=["cat", "dog"])
    features = Features(q=Value("string"), o=texts, a=animal, kind=Sequence(kind), n=Value("int64"))
    data = Dataset.from_dict(columns, features=features)
    data.to_parquet(str(tmp_path / "rows.parquet"))
    data.save_to_disk(str(tmp_path / "saved"))
    for source in ("rows.parquet", "saved"):
        rows = open_tables(str(tmp_path / source))[0].rows
        assert [rows[0]["a"], rows[1]["a"]] == ["dog", "cat"]
        assert next(iter(rows.scan(["a", "kind"]))) == {"a": "dog", "kind": ["easy", "hard"]}
    (tmp_path / "m.yaml").write_text(
        "source: rows.parquet\nproblem: q\nanswer: a\nchoices: o\ncarry: [a, n]\n"
    )
    convert(tmp_path / "m.yaml", tmp_path / "out")
    written = pq.read_table(tmp_path / "out/train.parquet").to_pylist()
    assert [row["a"] for row in written] == ["dog", "cat"]
    assert [parse_gold(row["answer"]).alternatives for row in written] == [("B",), ("A",)]
