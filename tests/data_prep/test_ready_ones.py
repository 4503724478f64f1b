"""The ready preparations: each turns rows of its data set's form into rows that verify."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmpo_vl.data.convert import convert
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.mapping import load_mapping
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.verify import parse_gold, verify

DATA_PREP = Path(__file__).parents[2] / "data_prep"


def prepared(name: str, rows: list[dict], tmp_path: Path):
    """The rows through a preparation: its card, and its train examples."""
    mapping = (DATA_PREP / name).read_text()
    splits = ("train", "validation", "test") if "source: {" in mapping else ("train",)
    (tmp_path / "rows").mkdir()
    for split in splits:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"rows/{split}.parquet")
    (tmp_path / name).write_text(mapping.replace("validation: 0.0", "# validation: 0.0"))
    card = convert(tmp_path / name, tmp_path / "out", source=str(tmp_path / "rows"))
    return card, list(load_examples(str(tmp_path / "out/train.parquet"), check_images=True))


def test_every_mapping_is_short_and_valid():
    mappings = sorted(DATA_PREP.glob("*.yaml"))
    assert len(mappings) >= 6
    for path in mappings:
        assert load_mapping(path).problem
        assert len(path.read_text().splitlines()) <= 15
    for path in DATA_PREP.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 80


def test_geoqa(tmp_path, png):
    rows = [
        {
            "image": {"bytes": png, "path": None},
            "problem": "Find the angle.",
            "solution": f"<answer> {a} </answer>",
        }
        for a in ("145°", "5√3", "2")
    ]
    _, examples = prepared("geoqa.yaml", rows, tmp_path)
    assert [e.answer for e in examples] == ["145°", "5√3", "2"]
    assert examples[0].problem == "<image>Find the angle."
    assert all(verify(e.answer, f"\\boxed{{{e.answer}}}").correct for e in examples)
    assert verify(examples[0].answer, "\\boxed{145}").correct


def test_mathvision_real_rows(tmp_path, data_dir):
    source = data_dir / "mathvision_testmini" / "testmini.parquet"
    if not source.is_file():
        pytest.skip(f"no {source}")
    real = pq.read_table(source).to_pylist()[:60]
    rows = [{**r, "decoded_image": r["images"][0], "question": r["question_raw"]} for r in real]
    for row in rows:
        del row["images"], row["problem"]
    card, examples = prepared("mathvision.yaml", rows, tmp_path)
    assert card.dropped == {}
    for example, row in zip(examples, real, strict=True):
        assert example.problem.startswith("<image>")
        assert "<image1>" not in example.problem
        assert example.meta["subject"] == row["subject"]
        assert verify(example.answer, f"\\boxed{{{row['answer']}}}").correct
        assert parse_gold(example.answer).choices == tuple(row["options"])


def test_scienceqa(tmp_path, png):
    picture, places = {"bytes": png, "path": None}, ["Rome", "Bonn", "Oslo"]
    rows = [
        {"image": picture, "question": "Which?", "choices": ["cat", "dog"], "answer": 1, "hint": ""},
        {"image": picture, "question": "Where?", "choices": places, "answer": 0, "hint": "A map."},
        {"image": None, "question": "Text?", "choices": ["a", "b"], "answer": 0, "hint": ""},
    ]  # fmt: skip
    rows = [{**r, "subject": "s", "topic": "t", "grade": "g"} for r in rows]
    card, examples = prepared("scienceqa.yaml", rows, tmp_path)
    assert card.not_kept == 3
    assert {name: split.rows for name, split in card.splits.items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }
    assert [e.problem for e in examples] == [
        "<image>Which?\nA. cat\nB. dog",
        "<image>A map.\nWhere?\nA. Rome\nB. Bonn\nC. Oslo",
    ]
    assert verify(examples[0].answer, "\\boxed{B}").correct
    assert verify(examples[1].answer, "\\boxed{Rome}").correct


def test_multi_image(tmp_path, png):
    columns = {f"image_{i}": None for i in range(3, 8)}
    picture = {"bytes": png, "path": None}
    row = {
        "id": "q1",
        "question": "<image 1> turns into which of <image 2>?",
        "options": "['the left', \"the 'right'\"]",
        "answer": "B",
        "question_type": "multiple-choice",
        "image_1": picture,
        "image_2": picture,
    }
    _, examples = prepared(
        "multi_image.yaml", [{**row, **columns}, {**row, "question_type": "open", "id": "q2"}], tmp_path
    )
    assert len(examples) == 1
    assert examples[0].problem == "<image> turns into which of <image>?\nA. the left\nB. the 'right'"
    assert len(examples[0].images) == 2


def test_countdown(tmp_path):
    _, examples = prepared("countdown.yaml", [{"target": 98, "nums": [44, 19, 35]}], tmp_path)
    assert "44, 19, 35" in examples[0].problem
    for answer, correct in (("44+19+35", True), ("44+19", False), ("98", False)):
        assert verify(examples[0].answer, f"<answer>{answer}</answer>", answer_in="tag").correct == correct


def test_deepscaler_real_rows(tmp_path, data_dir):
    source = data_dir / "deepscaler" / "train_10000.parquet"
    if not source.is_file():
        pytest.skip(f"no {source}")
    card, examples = prepared("deepscaler.yaml", pq.read_table(source).slice(0, 300).to_pylist(), tmp_path)
    assert card.splits["train"].rows + sum(card.dropped.values()) == 300
    right = sum(verify(e.answer, f"\\boxed{{{e.answer}}}").correct for e in examples)
    assert right / len(examples) > 0.97


def test_counting_reads_the_names(tmp_path, png):
    names = [
        "how_numCircles_7_colored",
        "side_numPentagons_5",
        "gt_2_image_25",
        "depth_3_x",
        "grid_5x4_500",
        "other",
    ]
    (tmp_path / "pics/deep").mkdir(parents=True)
    for i, name in enumerate(names * 4):
        (tmp_path / f"pics/deep/{i}_{name}.png").write_bytes(png + bytes([i]))
    (tmp_path / "pics/again_numCircles_7.png").write_bytes(png + bytes([0]))
    card = convert(DATA_PREP / "counting.py", tmp_path / "out", source=str(tmp_path / "pics"))
    rows = {split: load_examples(str(tmp_path / f"out/{split}.parquet")) for split in ("train", "test")}
    assert card.rows_in == len(rows["train"]) + len(rows["test"]) == 20
    answers = {(e.problem, e.answer) for examples in rows.values() for e in examples}
    assert ("<image>How many circles are there?", "7") in answers
    assert any("rows and columns" in problem and answer == "(5,4)" for problem, answer in answers)
    assert len(answers) == 5


def test_math_levels_leave_out_math500(tmp_path):
    rows = [
        {"problem": f"Problem {i}.", "level": f"Level {i % 5 + 1}", "solution": f"So \\boxed{{{i}}}."}
        for i in range(60)
    ]
    (tmp_path / "math.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_parquet(tmp_path / "math500.parquet", [{"images": [], "problem": "Problem\n 3.", "answer": "3"}])
    convert(DATA_PREP / "math_levels.py", tmp_path / "out", source=str(tmp_path))
    train, held_out = (
        load_examples(str(tmp_path / f"out/{name}.parquet")) for name in ("train", "validation")
    )
    answers = {name: [int(e.answer) for e in split] for name, split in (("train", train), ("held", held_out))}
    assert sorted(answers["train"] + answers["held"]) == [i for i in range(60) if i % 5 >= 2 and i != 3]
    assert 0 < len(answers["held"]) < 6


def test_math_levels_on_real_rows(tmp_path, data_dir):
    whole, suite = data_dir / "math_train/math_full_12500.parquet", data_dir / "math_eval/evaluation_suite"
    if not whole.is_file() or not suite.is_dir():
        pytest.skip(f"no {whole}")
    source = tmp_path / "source"
    held_out = load_examples(f"{suite}@math")
    write_parquet(
        source / "math500.parquet",
        ({"images": [], "problem": e.problem, "answer": e.answer} for e in held_out),
    )
    (source / "math.parquet").symlink_to(whole)
    card = convert(DATA_PREP / "math_levels.py", tmp_path / "out", source=str(source))
    sizes = {name: split.rows for name, split in card.splits.items()}
    assert sum(sizes.values()) == 8883  # distinct but for white space; 8,888 rows in all
    assert 220 < sizes["validation"] < 310
