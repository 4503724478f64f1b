"""A row becomes an Example or a named fault; nothing a file can hold raises anything else."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gmpo_vl.data.examples import examples_from_rows
from gmpo_vl.data.rows import (
    BadRowsError,
    Columns,
    Fault,
    RowError,
    RowFaults,
    example_from_row,
)

COLUMNS = Columns()


def row(**changes) -> dict:
    return {"problem": "Find x.", "answer": "3", **changes}


def reason_of(content: dict, columns: Columns = COLUMNS) -> str:
    with pytest.raises(RowError) as raised:
        example_from_row(content, columns, "rows:0")
    assert str(raised.value)
    return raised.value.reason


def test_a_text_row_and_rows_with_one_or_many_images(png, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png)
    assert example_from_row(row(), COLUMNS, "rows:7").id == "rows:7"
    picture = Image.new("RGB", (3, 3))
    for images, expected in (
        (None, ()),
        ([], ()),
        ("", ()),
        (png, (png,)),
        (str(path), (str(path),)),
        (path, (str(path),)),
        (picture, (picture,)),
        ({"bytes": png, "path": "gone.png"}, (png,)),
        ({"bytes": None, "path": str(path)}, (str(path),)),
        ([png, str(path), {"bytes": bytearray(png)}, picture], (png, str(path), png, picture)),
    ):
        problem = "<image>" * len(expected) + "Find x."
        assert example_from_row(row(problem=problem, images=images), COLUMNS, "r").images == expected


def test_relative_paths_start_at_image_dir_and_else_where_one_stands(png, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png)
    content = row(problem="<image>Find x.", images=["a.png"])
    columns = Columns(image_dir=str(tmp_path))
    assert example_from_row(content, columns, "r").images == (str(tmp_path / "a.png"),)
    assert reason_of(content) == "image_missing"
    monkeypatch.chdir(tmp_path)
    assert example_from_row(content, COLUMNS, "r").images == ("a.png",)


@pytest.mark.parametrize(
    ("value", "answer"),
    [(" 5\n", "5"), (142.0, "142"), (7, "7"), (0.25, "0.25"), (-0.0, "0"), (1e300, "1e+300"), (["3\n"], "3")],
)
def test_numbers_become_text_and_space_is_cut(value, answer):
    assert example_from_row(row(answer=value), COLUMNS, "r").answer == answer


def test_a_list_of_answers_means_any_of_them():
    assert json.loads(example_from_row(row(answer=["0.5\n", 1]), COLUMNS, "r").answer) == {
        "gold": ["0.5", "1"]
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"problem": None}, "empty_problem"),
        ({"problem": math.nan}, "empty_problem"),
        ({"problem": " \n"}, "empty_problem"),
        ({"problem": "<image>", "images": [b"x"]}, "empty_problem"),
        ({"problem": 12}, "problem_type"),
        ({"problem": 10**5000}, "problem_type"),
        ({"problem": [{"role": "user", "content": "x"}]}, "problem_type"),
        ({"problem": "x" * 10_000_000}, "problem_length"),
        ({"problem": "x \ud83d y"}, "bad_text"),
        ({"answer": None}, "empty_answer"),
        ({"answer": ""}, "empty_answer"),
        ({"answer": " \t"}, "empty_answer"),
        ({"answer": []}, "empty_answer"),
        ({"answer": ["", "3"]}, "empty_answer"),
        ({"answer": math.nan}, "empty_answer"),
        ({"answer": math.inf}, "answer_type"),
        ({"answer": True}, "answer_type"),
        ({"answer": {"gold": "3"}}, "answer_type"),
        ({"answer": [["1"], ["2"]]}, "answer_type"),
        ({"answer": b"3"}, "answer_type"),
        ({"answer": "9" * 10_000_000}, "answer_length"),
        ({"answer": 10**5000}, "number_length"),
        ({"answer": "\udc00"}, "bad_text"),
        ({"problem": "<image>x"}, "image_tags"),
        ({"problem": "<image><image>x", "images": [b"1"]}, "image_tags"),
        ({"images": [b"1"]}, "image_tags"),
        ({"problem": "<image>x", "images": [b""]}, "image_missing"),
        ({"problem": "<image>x", "images": [None]}, "image_missing"),
        ({"problem": "<image>x", "images": [b"1", None]}, "image_missing"),
        ({"problem": "x", "images": [""]}, "image_missing"),
        ({"problem": "<image>x", "images": {"bytes": None, "path": None}}, "image_missing"),
        ({"problem": "<image>x", "images": {}}, "image_missing"),
        ({"problem": "<image>x", "images": "no/such.png"}, "image_missing"),
        ({"problem": "<image>x", "images": "nul\0.png"}, "image_missing"),
        ({"problem": "<image>x", "images": "https://example.org/a.png"}, "image_missing"),
        ({"problem": "<image>x", "images": [3.5]}, "image_type"),
        ({"problem": "<image>x", "images": [[b"1"]]}, "image_type"),
        ({"id": ["a"]}, "id_type"),
        ({"id": ""}, "id_type"),
        ({"id": True}, "id_type"),
        ({"id": "x" * 500}, "id_type"),
    ],
)
def test_every_fault_has_its_name(changes, reason):
    assert reason_of(row(**changes)) == reason


def test_a_missing_column_is_named_with_those_there_are():
    with pytest.raises(RowError, match="no column 'problem'; the row has 'question', 'answer'") as raised:
        example_from_row({"question": "x", "answer": "3"}, COLUMNS, "r")
    assert raised.value.reason == "missing_column"


def test_ids_are_the_rows_own_as_text_and_can_be_left_aside():
    assert example_from_row(row(id=2401), COLUMNS, "r").id == "2401"
    assert example_from_row(row(id=7.0), COLUMNS, "r").id == "7"  # a column of integers with gaps
    assert example_from_row(row(id=None), COLUMNS, "rows:3").id == "rows:3"
    assert example_from_row(row(id="a"), Columns(id_key=None), "rows:3").id == "rows:3"
    assert example_from_row(row(qid="a"), Columns(id_key="qid"), "rows:3").id == "a"


def test_meta_holds_small_scalars_only(png):
    content = row(
        level=3, type="Algebra", ok=True, score=0.5, choices=["1"], raw=png, text="x" * 5000, bad=math.nan
    )
    content |= {"half": "\ud83d", "nothing": None, "huge": 10**5000}
    assert example_from_row(content, COLUMNS, "r").meta == {
        "level": 3,
        "type": "Algebra",
        "ok": True,
        "score": 0.5,
    }


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("a<image>\ud800\0 9", max_size=12)
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["bytes", "path", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["problem", "answer", "images", "id", "other"]), JSON))
def test_any_row_is_an_example_or_a_fault(content):
    try:
        example = example_from_row(content, COLUMNS, "r:0")
    except RowError as error:
        str(error).encode("utf-8")  # reports are written to files
        return
    assert example.problem.count("<image>") == len(example.images)
    assert example.answer.strip()
    assert json.dumps([example.id, example.problem, example.answer, example.meta], allow_nan=False).encode()


def faults(count: int) -> RowFaults:
    return RowFaults(
        [
            Fault("a.jsonl", i, f"a:{i}", "empty_answer" if i % 3 else "image_tags", "why")
            for i in range(count)
        ]
    )


def test_the_policy_error_shows_the_first_and_counts_the_rest(tmp_path):
    with pytest.raises(BadRowsError) as raised:
        faults(12).settle("error", num_good=5)
    message = str(raised.value)
    assert "12 bad rows: empty_answer 8, image_tags 4" in message
    assert "a.jsonl, row 0 (id a:0): image_tags: why" in message
    assert "and 7 more" in message
    assert "on_bad_row=skip" in message
    faults(12).settle("skip", num_good=5)
    RowFaults().settle("error", num_good=5)
    faults(12).write(tmp_path / "faults.jsonl")
    lines = (tmp_path / "faults.jsonl").read_text().splitlines()
    assert json.loads(lines[11]) == {
        "file": "a.jsonl",
        "row": 11,
        "id": "a:11",
        "reason": "empty_answer",
        "detail": "why",
    }


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_a_set_without_a_usable_row_is_always_an_error(on_bad_row):
    for collected in (faults(3), RowFaults()):
        with pytest.raises(BadRowsError):
            collected.settle(on_bad_row, num_good=0)


def test_advice_fits_the_fault():
    """Leaving out over-long prompts is a setting of its own."""
    too_long = RowFaults(
        [Fault("a.jsonl", 3, "a:3", "prompt_too_long", "1,532 tokens, max_prompt_length is 1,024")]
    )
    with pytest.raises(BadRowsError, match="filter_overlong_prompts=true") as raised:
        too_long.settle("error", num_good=9)
    assert "on_bad_row" not in str(raised.value)


def test_dropping_under_error_speaks_of_the_new_faults_only():
    rows = [row(), row(answer=""), row()]
    examples = examples_from_rows(rows, "mine", on_bad_row="skip")
    with pytest.raises(BadRowsError, match="1 bad row: prompt_too_long 1"):
        examples.drop({1: ("prompt_too_long", "12 tokens")}, "error")
    with pytest.raises(BadRowsError, match="no usable row is left\n3 bad rows"):
        examples.drop({0: ("prompt_too_long", "12 tokens"), 1: ("prompt_too_long", "12 tokens")}, "skip")
    assert examples.drop({}, "error").faults.counts() == {"empty_answer": 1}
