"""What another harness calls the right answer, as our `answer` column has it."""

import json
from datetime import date, datetime, time

import pytest
from imports import SHAPES, kit_row, lmms_file, lmms_line

from gmpo_vl.data.rows import RowError
from gmpo_vl.evaluation.imported.rows import gold_of
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.verify import verify

SEGMENTS = ["AB", "AC", "BC"]


@pytest.fixture
def samples(gmpo_vl, tmp_path):
    """Import lines of lmms-eval, or rows of VLMEvalKit: (samples, rows left out)."""

    def run(lines: list[dict]) -> tuple[list, dict]:
        file = tmp_path / "T_X.json"
        file.write_text(json.dumps(lines))
        file = lmms_file(tmp_path, lines) if "doc_id" in lines[0] else file
        gmpo_vl("eval", "import", file, "--out", tmp_path / "out", "--name", "x")
        folder = EvaluationFolder(tmp_path / "out" / "x-imported")
        return list(folder.samples()), folder.results()["settings"]["imported"].get("left_out", {})

    return run


@pytest.mark.parametrize(
    ("answer", "options", "kind", "gold"),
    [
        ("B", ["x", "y"], None, "B"),
        ("y", ["x", "y"], None, "B"),
        ("A, C", ["x", "y", "z"], None, "A, C"),
        ("AC", ["x", "y", "z"], None, "A, C"),
        ("AC", SEGMENTS, None, "B"),  # a text of letters
        ("BC", SEGMENTS, None, "C"),
        ("(b)", ["(e)", "(a)", "(c)", "(d)", "(b)"], None, "E"),
        ("B", ["B", "A"], "text", "A"),
        ("2", ["1", "2", "3"], "text", "B"),
        ("18", ["12", "18", "20"], None, "B"),
        ("18", ["9", "18", "18"], None, ["B", "C"]),
        (18, ["12", "18.0", "20"], None, None),
        ("B", ["B", "A"], None, None),  # the letter of one option and the text of another
        ("2", ["1", "2", "3"], None, None),
        (2.0, ["1", "2", "3"], None, None),
        ("1", ["x", "y"], None, None),
        (1, ["x", "y"], None, None),
        ("E", ["x", "y"], None, None),
        ("pentagon", ["x", "y"], None, None),
    ],
)
def test_which_option_is_right(answer, options, kind, gold):
    if gold is None:
        with pytest.raises(RowError, match="the right answer") as raised:
            gold_of(answer, options, kind=kind)
        assert raised.value.reason == "answer_choice"
    else:
        found = json.loads(gold_of(answer, options, kind=kind))
        assert (found["gold"], found["choices"]) == (gold, options)


@pytest.mark.parametrize(
    ("answer", "is_choice"),
    [("B", True), ("square", True), ("five of them", False), ("1", None), (1, None), ("E", None)],
)
def test_what_a_prompt_shows_may_be_no_options(answer, is_choice):
    shown = ["circle", "square", "triangle"]
    if is_choice is None:
        with pytest.raises(RowError):
            gold_of(answer, [], shown)
    else:
        assert ("choices" in gold_of(answer, [], shown)) is is_choice


@pytest.mark.parametrize(
    "answer", [datetime(2020, 5, 1), date(2020, 5, 1), time(1, 2), {"a": 1}, [datetime(2020, 5, 1)], b"x"]
)
def test_what_is_no_answer_leaves_its_row_out(answer):
    with pytest.raises(RowError, match="is of type"):
        gold_of(answer, [])


@pytest.mark.parametrize(
    ("gold", "response", "correct"),
    [
        ("yes", "Yes, it is.", True),
        ("Yes.", "yes", True),
        ("no", "No, there is none.", True),
        ("no", "Yes, it is.", False),
        ("No", "no", True),
    ],
)
def test_yes_and_no_are_read_as_the_protocols_read_them(gold, response, correct):
    assert verify(gold_of(gold, []), response, answer_in="any").correct is correct


def test_a_segment_is_no_set_of_letters(samples):
    asked = "Which is longest?\nA. AB\nB. AC\nC. BC"
    found, _ = samples(
        [lmms_line(i, asked, "AC", said, 1.0) for i, said in enumerate(["(B) AC", "AC", "B", "C"])]
    )
    assert [s.correct for s in found] == [True, True, True, False]


def test_rows_that_count_their_options_are_left_out(samples):
    lines = [
        lmms_line(0, SHAPES, 1, "B", 1.0),
        lmms_line(1, SHAPES, "E", "B", 1.0),
        lmms_line(2, SHAPES, "B", "B", 1.0),
    ]
    found, left_out = samples(lines)
    assert [s.id for s in found] == ["2"]
    assert left_out == {"answer_choice": 2}


def test_equal_options_that_a_prompt_shows_are_both_right():
    assert json.loads(gold_of("18", [], ["9", "18", "18"]))["gold"] == ["B", "C"]


def test_an_option_that_is_missing_leaves_its_row_out(samples):
    same = {"answer": "A", "prediction": "A"}
    rows = [
        kit_row(1, "Which?", "x y z", **same),
        {**kit_row(2, "Which?", "x y z", **same), "B": ""},
        {**kit_row(3, "Which?", "x y z", **same), "A": None},
        {**kit_row(4, "Which?", "x y z", **same), "C": None},
        kit_row(5, "Which letter?", "", **same),
    ]
    found, left_out = samples(rows)
    assert [s.id for s in found] == ["1", "4", "5"]
    assert left_out == {"choices": 2}


def test_a_worked_solution_ends_in_its_answer(samples):
    line = lmms_line(0, "How many?", "2 + 2 = <<2+2=4>>4\n#### 4", "The answer is 4.", 1.0)
    line["arguments"] = {"gen_args_0": {"arg_0": line.pop("input"), "arg_1": {"until": []}}}
    found, _ = samples([line])
    assert found[0].correct
    assert found[0].prompt == "How many?"
