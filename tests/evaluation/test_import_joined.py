"""`gmpo-vl eval import --data`: which row of the data a harness's row is, and when the join is refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from imports import lmms_file, lmms_line

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.evaluation.imported.questions import Asked, joined_gold
from gmpo_vl.evaluation.official import golds_agree
from gmpo_vl.runs import EvaluationFolder

GOLDS = [str(i % 3) for i in range(60)]
ROWS = [
    {
        "problem": f"<image>Hint: Count.\nQuestion {i}? Answer with a number.",
        "answer": gold,
        "images": [b"\x89PNG"],
    }
    for i, gold in enumerate(GOLDS)
]


def parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def importing(gmpo_vl, tmp_path):
    """Import lines with rows of --data: (what was said, samples; none where it was refused)."""

    def run(lines: list[dict] | Path, rows: list[dict], code: int = 0) -> tuple[str, list]:
        file = lines if isinstance(lines, Path) else lmms_file(tmp_path, lines)
        data = parquet(tmp_path / "rows.parquet", rows)
        said = gmpo_vl("eval", "import", file, "--data", data, "--out", tmp_path / "out", code=code)
        folders = list(map(EvaluationFolder, (tmp_path / "out").glob("*-imported")))
        return said, list(folders[0].samples()) if code == 0 else folders

    return run


def asked(i: int, **others) -> dict:
    line = lmms_line(i, f"question  {i}?\nAnswer the question using a single word.", GOLDS[i], GOLDS[i], 1.0)
    return line | others


LINES = [asked(i) for i in range(60)]


def test_rows_in_their_order_are_joined_whatever_the_prompt_says_besides(importing):
    _, samples = importing(LINES, ROWS)
    assert [s.id for s in samples] == [f"rows:{i}" for i in range(60)]
    assert all(s.correct for s in samples)


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:10] + ROWS[11:],  # one is missing
        ROWS[::-1],
        ROWS[3:] + ROWS[:3],  # all golds agree
        [{**row, "problem": row["problem"].replace("Question ", "Question 1")} for row in ROWS],
    ],
)
def test_rows_that_lie_elsewhere_refuse_the_whole_import(importing, rows):
    said, folders = importing(LINES, rows, code=2)
    assert "rows are not those of --data" in said
    assert "another_question: the file asks" in said
    assert "or leave --data out" in said
    assert not any(folder.results_file.exists() for folder in folders)


def test_golds_alone_refuse_a_join_where_the_file_has_no_questions(importing):
    lines = [{key: value for key, value in line.items() if key != "input"} for line in LINES]
    said, _ = importing(lines, ROWS[:10] + ROWS[11:], code=2)
    assert "another_answer" in said


def test_few_rows_of_other_questions_are_left_out(importing):
    lines = [
        asked(i, input="Why?  " if i == 7 else "Something else entirely.") if i in (7, 8) else LINES[i]
        for i in range(60)
    ]
    _, samples = importing(lines, ROWS)
    assert {f"rows:{i}" for i in range(60)} - {s.id for s in samples} == {"rows:8"}  # one word says nothing


def test_the_place_in_the_public_table_is_used_where_rows_have_it(importing):
    rows = [{**row, "source_row": i} for i, row in enumerate(ROWS) if i not in (10, 20)][::-1]
    _, samples = importing(LINES, rows)
    assert len(samples) == 58
    assert [s.meta["source_row"] for s in samples] == [i for i in range(60) if i not in (10, 20)]
    assert all(s.prompt == ROWS[s.meta["source_row"]]["problem"] for s in samples)


def test_a_place_that_two_rows_have_joins_nothing(importing):
    rows = [{**row, "source_row": i // 2} for i, row in enumerate(ROWS)]
    said, _ = importing(LINES, rows, code=2)
    assert "source_row is '0' in 2 rows" in said


def test_vlmevalkit_s_index_is_a_column_or_the_id(importing, tmp_path):
    lines = [
        {"index": 100 + i, "question": f"Question {i}?", "answer": gold, "prediction": gold}
        for i, gold in enumerate(GOLDS)
    ]
    file = tmp_path / "T_X.json"
    file.write_text(json.dumps(lines))
    _, samples = importing(
        file, [{**row, "id": f"q{i}", "index": 100 + i} for i, row in enumerate(ROWS)][::-1]
    )
    assert [s.id for s in samples] == [f"q{i}" for i in range(60)]
    said, _ = importing(file, [{**row, "id": str(101 + i)} for i, row in enumerate(ROWS)], code=2)
    assert "joined by id" in said  # counted from another start


def test_what_many_problems_say_tells_none_from_another():
    asked = Asked(
        [f"Look at it. What is {i}? Please answer yes or no." for i in range(9)]
        + ["Why not here? Look at it."]
    )
    assert asked.is_same("Look at it. What is 3? Please answer yes or no.", "What is 3?\nAnswer in one word.")
    assert not asked.is_same(
        "Look at it. What is 3? Please answer yes or no.", "What is 30? Please answer yes or no."
    )
    assert Asked(["<image>WHAT is\n3 - 1?"]).is_same("<image>WHAT is\n3 - 1?", "Say: what is 3 − 1? Now.")
    assert not Asked(["What is 3 - 1?"]).is_same("What is 3 - 1?", "What is 3 + 1? Now.")
    assert Asked(["Why?"]).is_same("Why?", "What is this?") is None


PETS = ("Which?\nA. cat\nB. dog\nC. cow", encode_answer("B", type="choice", choices=["cat", "dog", "cow"]))


@pytest.mark.parametrize(
    ("gold", "prompt", "letter"),
    [
        ("B", "Which?\nA. cat\nB. dog\nC. cow", "B"),
        ("A", "Which?\n(A) dog\n(B) cat\n(C) cow", "A"),  # in another order, where A is the dog
        ("B", "Which?\n(A) cow\n(B) dog\n(C) cat", "B"),
        ("dog", "Which is it?", "B"),
        ("B", "Which is it?", "B"),
        ("B", "Which? (A) dog (B) cat (C) cow", None),
        ("B", "Which?\nA. cat\nB. cow\nC. dog", None),
        ("A", "Which?\nA. cow\nB. dog\nC. cat", None),
        ("B", "Which?\nA. hen\nB. fox\nC. owl", None),
        ("cat", "Which is it?", None),
        (
            "B",
            "a dog, b cat, c cow: which?",
            None,
        ),  # no list of options that could be read, but their letters
        ("", "a dog, b cat, c cow: which?", None),
    ],
)
def test_options_are_compared_by_their_texts(gold, prompt, letter):
    if gold in "ABC" and gold and "\n" in prompt:
        from gmpo_vl.evaluation.imported.rows import gold_of, options_shown

        gold = gold_of(gold, options_shown(prompt))
    found = joined_gold(gold, prompt, PETS[1], PETS[0])
    assert (None if found is None else json.loads(found)["gold"]) == letter
    if found is not None and "(A) dog\n" in prompt:
        assert json.loads(found)["choices"] == ["dog", "cat", "cow"]


def test_pictures_for_options_are_compared_by_letter():
    drawn = encode_answer("B", type="choice", choices=["A", "B"])
    stated = encode_answer("B", type="choice", choices=["<image 1>", "<image 2>"])
    assert joined_gold(stated, "Which?", drawn, "Which?") == drawn
    other = encode_answer("A", type="choice", choices=["<image 1>", "<image 2>"])
    assert joined_gold(other, "Which?", drawn, "Which?") is None
    small = (
        encode_answer("A", type="choice", choices=["1", "2"]),
        encode_answer("A", type="choice", choices=["2", "3"]),
    )
    assert joined_gold(small[0], "Which?", small[1], "Which?") is None


@pytest.mark.parametrize(
    ("a", "b", "agree"),
    [
        ("104", encode_answer("100", tolerance=0.05), False),
        ("100", encode_answer("100", tolerance=0.05), True),
        ("9.1652", encode_answer("9.2", type="rounded"), True),  # by one of the two alone
        (encode_answer("9.2", type="rounded"), "9.1652", True),
        ("yes", encode_answer("No", type="text"), False),
    ],
)
def test_golds_agree_without_a_tolerance_and_whichever_comes_first(a, b, agree):
    assert golds_agree(a, b) is agree


def test_a_gold_that_the_file_counts_is_the_data_s(importing):
    lines = [asked(i, target=1, input=LINES[i]["input"] + "\nA. x\nB. y") for i in range(60)]
    _, samples = importing(lines, ROWS)
    assert [s.gold for s in samples] == GOLDS
