"""Benchmarks' public columns to questions: what is asked, what is right, and which rows are refused."""

import csv
import json
import runpy
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_rows import OPTION_OF_WEMATH, ROWS

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.evaluation.aggregates import AGGREGATES
from gmpo_vl.evaluation.benchmarks import BENCHMARKS, write_benchmark
from gmpo_vl.evaluation.benchmarks.questions import Question
from gmpo_vl.evaluation.prepare import data_hash
from gmpo_vl.evaluation.protocols import SUITES, load_protocol
from gmpo_vl.types import Example
from gmpo_vl.verify import parse_gold, verify

ROOT = Path(__file__).parents[2]


def questions(name: str, rows: list[dict] | None = None) -> list[Question]:
    found = map(BENCHMARKS[name].read, ROWS[name]() if rows is None else rows)
    return [question for question in found if question is not None]


def accepted(question: Question | Example, answers: list[str]) -> list[str]:
    return [answer for answer in answers if verify(question.answer, f"\\boxed{{{answer}}}").correct]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_becomes_a_question_whose_gold_verifies(name, tmp_path):
    found = questions(name)
    assert len(found) == len(ROWS[name]()) - (name == "logicvista"), "one of LogicVista's rows is empty"
    pq.write_table(pa.Table.from_pylist(ROWS[name]()), tmp_path / "rows.parquet")
    assert write_benchmark(name, [str(tmp_path / "rows.parquet")], tmp_path / "out") == len(found)
    examples = load_examples(str(tmp_path / "out" / f"{name}.parquet"), check_images=True)
    for i, (example, question) in enumerate(zip(examples, found, strict=True)):
        assert example.id == (question.id or f"{name}-{i}")
        assert example.problem == question.problem
        assert example.meta.items() >= question.columns.items()
        sizes = [unit.size for unit in AGGREGATES[name].units] if name in AGGREGATES else []
        index = ["index"] if name == "dynamath" else []
        assert list(example.meta) == ["source_row", *index, *BENCHMARKS[name].columns, *sizes]
        assert example.meta["source_row"] == i
        for gold in parse_gold(example.answer).alternatives:
            assert verify(example.answer, f"\\boxed{{{gold}}}").correct


def test_every_benchmark_has_a_protocol_of_the_same_name_and_the_suites_have_all():
    assert ROWS.keys() == BENCHMARKS.keys()
    for name in BENCHMARKS:
        protocol = load_protocol(name)
        assert protocol.data == f"data/vision/{name}.parquet"
        assert protocol.official
        assert protocol.version is not None
    assert {*SUITES["all_vision"]} == {*BENCHMARKS, "geometry3k"} - {"mathvision_testmini"}


def test_mathvision():
    free, drawn, choice = questions("mathvision")
    (pictured,) = questions("mathvision", [ROWS["mathvision"]()[0] | {"question": "<image1>"}])
    assert pictured.problem == "<image>Answer the question that the picture shows."
    assert free.problem == "<image>How many?"
    assert drawn.problem == "<image>Which one?\nA\nB"
    assert choice.problem == "<image>How long is it?\nA. $\\frac12$\nB. 2 cm\nC. 3 cm"
    assert accepted(choice, ["A", "0.5", "A. 1/2", "B", "2", "0.51"]) == ["A", "0.5", "A. 1/2"]


def test_geometry3k_in_four_choices():
    first, *_ = questions("geometry3k_choices")
    assert first.problem == "<image>Find x + 0.\nA. 1\nB. 2\nC. \\sqrt { 3 }\nD. 4"
    assert accepted(first, ["C", "\\sqrt3", "1.732", "D", "4"]) == ["C", "\\sqrt3"]


def test_geoqa():
    angle, length, root = questions("geoqa")
    assert accepted(angle, ["140", "140^\\circ", "14"]) == ["140", "140^\\circ"]
    assert accepted(length, ["3", "3 cm", "3 m"]) == ["3", "3 cm"]
    assert accepted(root, ["2\\sqrt{15}", "2\\sqrt{15} m", "15"]) == ["2\\sqrt{15}", "2\\sqrt{15} m"]


def test_mathvista():
    choice, whole, decimal, listed, twice = questions("mathvista")
    assert choice.problem.startswith("<image>Hint: Please answer.\nQuestion: ")
    assert choice.columns["skills"] == "algebraic reasoning; arithmetic reasoning"
    assert accepted(choice, ["B", "(B) 18", "18", "A", "12"]) == ["B", "(B) 18", "18"]
    assert accepted(whole, ["4", "4.0", "5"]) == ["4", "4.0"]
    assert accepted(decimal, ["1.2", "1.24", "1.26", "1.1"]) == ["1.2", "1.24"]
    assert accepted(listed, ["[2014, 2016]", "[2014, 2015]"]) == ["[2014, 2016]"]
    assert accepted(twice, ["B", "C", "A"]) == ["B", "C"], "two choices have the right text"


def test_mathverse():
    rows = ROWS["mathverse"]()
    rows[0] |= {"answer": "C\nD"}
    rows[1] |= {"answer": "(B)"}
    rows[2] |= {"answer": "140°"}
    rows[6] |= {"answer": "35掳"}
    rows.append(rows[0] | {"sample_index": "99", "problem_version": "Text Only", "image": None})
    found = questions("mathverse", rows)
    assert [row.columns["version"] for row in found[:5]] == [row["problem_version"] for row in rows[:5]]
    assert found[4].problem.endswith("Question: the question in the image")
    assert accepted(found[0], ["C, D", "DC", "C", "A, C, D"]) == ["C, D", "DC"]
    assert accepted(found[1], ["B", "60°", "A"]) == ["B", "60°"]
    assert accepted(found[2], ["140°", "D", "A"]) == ["140°", "D"]
    assert accepted(found[4], ["D", "140", "A"]) == ["D", "140"], "its options are in the question for judges"
    assert accepted(found[5], ["7", "7 cm", "8"]) == ["7", "7 cm"]
    assert accepted(found[6], ["35^\\circ", "35", "36"]) == ["35^\\circ", "35"]
    assert (found[-1].pictures, found[-1].problem.count("<image>")) == ([], 0)


def test_wemath():
    found = questions("wemath")
    assert [row.id for row in found[:3]] == ["2steps_1/1", "2steps_1/2", "2steps_1/multi"]
    assert [row.columns["step"] for row in found[1:4]] == ["one step", "two steps", "one step"]
    assert found[-1].columns["step"] == "three steps"
    assert found[0].problem.endswith(f"\n{OPTION_OF_WEMATH}")
    assert accepted(found[0], ["C", "3000, 4000", "B", "4000, 3000"]) == ["C", "3000, 4000"]


def test_hallusionbench_reads_the_word():
    found = questions("hallusionbench")
    assert found[0].pictures == []
    assert found[0].problem == "Is 0 larger? Please answer yes or no."
    assert found[1].problem.startswith("<image>Is 1")
    said = ["Yes", "yes.", "Yes, it is.", "No", "No, it is not.", "Yes, or no.", "None"]
    assert accepted(found[1], said) == said[:3]
    assert accepted(found[0], said) == said[3:5]


def test_logicvista():
    letter, several, options, number = questions("logicvista")
    assert accepted(letter, ["C", "(c)", "B"]) == ["C", "(c)"]
    assert accepted(several, ["A, C", "CA", "A and C", "A", "A, B, C"]) == ["A, C", "CA", "A and C"]
    assert accepted(options, ["B", "False", "True"]) == ["B", "False"]
    assert accepted(number, ["3", "C"]) == ["3"]


def test_dynamath():
    number, text, choice = questions("dynamath")[:3]
    assert (number.id, number.columns["question_id"], number.columns["variant"]) == ("1/1", "1", "1")
    assert accepted(number, ["2.094", "\\frac{2\\pi}{3}", "2.09", "2.095"]) == ["2.094", "\\frac{2\\pi}{3}"]
    assert accepted(text, ["sep", "S"]) == ["sep"], "no part of the gold is right"
    assert accepted(choice, ["B", "odd", "even"]) == ["B", "odd"]


def test_chartqa():
    number, word, yes = questions("chartqa")
    assert (number.columns["part"], word.columns["part"]) == ("human", "augmented")
    assert accepted(number, ["57", "59", "57%", "61"]) == ["57", "59", "57%"]
    (wide,) = questions("chartqa", [ROWS["chartqa"]()[0] | {"answer": "200"}])
    assert accepted(wide, ["190", "189", "210", "211"]) == ["190", "210"], "within 5 %, both ends included"
    assert accepted(word, ["canada", "Canada.", "Canda"]) == ["canada", "Canada."]
    assert accepted(yes, ["Yes", "No"]) == ["Yes"]


def test_mmmu_shows_each_picture_where_it_is_marked():
    rows = ROWS["mmmu"]()
    first, drawn, free = questions("mmmu", rows)
    assert (first.columns["subject"], first.columns["discipline"]) == ("Art Theory", "Art and Design")
    assert first.problem == "<image> is by whom?\nA. Bosch\nB. the 'other'"
    one, two = (rows[1][f"image_{i}"] for i in (1, 2))
    assert drawn.problem == "Which of <image> and <image>?\nA. <image>\nB. <image>"
    assert drawn.pictures == [two, one, one, two]
    assert accepted(drawn, ["B", "A"]) == ["B"]
    assert free.problem == "<image>How many bars?"
    assert accepted(free, ["8", "eight", "9"]) == ["8", "eight"]


OF_MMMU = {  # as the benchmark's own evaluation sorts them
    "Art and Design": ["Art", "Art_Theory", "Design", "Music"],
    "Business": ["Accounting", "Economics", "Finance", "Manage", "Marketing"],
    "Science": ["Biology", "Chemistry", "Geography", "Math", "Physics"],
    "Health and Medicine": [
        *("Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine"),
        *("Pharmacy", "Public_Health"),
    ],
    "Humanities and Social Science": ["History", "Literature", "Sociology", "Psychology"],
    "Tech and Engineering": [
        *("Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics"),
        *("Energy_and_Power", "Materials", "Mechanical_Engineering"),
    ],
}


def test_every_subject_of_mmmu_has_its_discipline():
    subjects = [(subject, name) for name, subjects in OF_MMMU.items() for subject in subjects]
    rows = [ROWS["mmmu"]()[0] | {"id": f"validation_{subject}_12"} for subject, _ in subjects]
    found = [(row.columns["subject"], row.columns["discipline"]) for row in questions("mmmu", rows)]
    assert found == [(subject.replace("_", " "), name) for subject, name in subjects]
    assert len(found) == 30


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("mathvision", {"answer": "D"}, "names none of 3 options"),
        ("mathvision", {"level": None}, "column 'level' is empty"),
        ("mathvista", {"answer": "19"}, "none of the choices"),
        ("mathvista", {"question_type": "free_form"}, "has 3 choices"),
        ("mathvista", {"answer_type": "words"}, "not one of text, integer"),
        ("mathverse", {"problem_version": "Text"}, "not one of Text Dominant"),
        ("mathverse", {"answer": "E"}, "names none of 4 options"),
        ("wemath", {"key": "2steps_3"}, "not 2steps_1"),
        ("wemath", {"ID": "3steps_1"}, "another number of steps"),
        ("hallusionbench", {"gt_answer": "2"}, "not one of 0, 1"),
        ("hallusionbench", {"set_id": "x"}, "not a whole number"),
        ("logicvista", {"answer": "A or B"}, "no letter"),
        ("logicvista", {"skill": ["a", "b"]}, "has 2 values"),
        ("dynamath", {"answer": "two"}, "is no number"),
        ("dynamath", {"varid": "1.5"}, "'1.5', not a whole number"),
        ("chartqa", {"type": "test"}, "neither human nor augmented"),
        ("mmmu", {"id": "validation_Alchemy_1"}, "names no subject"),
        ("mmmu", {"question": "<image 2>?"}, "column 'image_2' is empty"),
        ("mmmu", {"question_type": "open"}, "has 2 options"),
        ("geometry3k_choices", {"choices": ["1", "2"]}, "2 choices"),
        ("geometry3k_choices", {"ground_truth": "E"}, "names none of 4"),
        ("geoqa", {"ground_truth": " "}, "column 'ground_truth' is empty"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(name, change, said):
    rows = ROWS[name]()
    rows[2 if name == "mathvision" else 0] |= change
    with pytest.raises(RowError, match=said):
        questions(name, rows)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_without_its_gold_is_refused(name):
    gold = {"geometry3k_choices": "ground_truth", "geoqa": "ground_truth", "hallusionbench": "gt_answer"}
    column = gold.get(name, "answer")
    rows = [{key: value for key, value in row.items() if key != column} for row in ROWS[name]()]
    with pytest.raises(RowError, match=f"no column '{column}'; the row has "):
        questions(name, rows)


def test_the_same_question_twice_is_refused_and_nothing_is_written(tmp_path):
    source = str(tmp_path / "rows.parquet")
    pq.write_table(pa.Table.from_pylist([*ROWS["wemath"](), ROWS["wemath"]()[0]]), source)
    with pytest.raises(DataError, match=r"rows.parquet, row 7: its id '2steps_1/1' is that of .*row 0"):
        write_benchmark("wemath", [source], tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_other_forms_of_the_same_rows(tmp_path, capsys):
    """VLMEvalKit's table with base64, JSON beside a folder of pictures: by the script."""
    main = runpy.run_path(str(ROOT / "data_prep/vision_benchmarks.py"))["main"]
    rows = ROWS["dynamath"]()
    with (tmp_path / "DynaMath.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    main(["dynamath", str(tmp_path / "DynaMath.tsv"), str(tmp_path / "out")])
    assert "30 questions, the benchmark has 5,010" in capsys.readouterr().out
    pictures = tmp_path / "logic" / "images"
    pictures.mkdir(parents=True)
    named = {}
    for row in ROWS["logicvista"]():
        (pictures / row["imagename"]).write_bytes(row.pop("image")["bytes"])
        named[row["imagename"][:-4]] = row
    (tmp_path / "logic/dataset.json").write_text(json.dumps(named))
    main(["logicvista", str(tmp_path / "logic/dataset.json"), str(tmp_path / "out")])
    examples = list(load_examples(str(tmp_path / "out/logicvista.parquet"), check_images=True))
    assert [example.id for example in examples] == ["v1_0", "v1_1", "v1_2", "v1_3"]
    with pytest.raises(SystemExit):
        main(["geoqa", str(tmp_path / "logic/dataset.json"), str(tmp_path / "out")])
    assert "dataset.json, row 0: no column 'ground_truth'" in capsys.readouterr().err


def test_mathvision_testmini_whole(data_dir, tmp_path):
    """All 304 questions: the data that the protocol pins, golds that verify, and no other option accepted."""
    source = data_dir / "mathvision_testmini" / "testmini.parquet"
    if not source.is_file():
        pytest.skip(f"no {source}")
    rows = pq.read_table(source).to_pylist()
    rows = [{**row, "decoded_image": row["images"][0], "question": row["question_raw"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert write_benchmark("mathvision_testmini", [str(tmp_path / "rows.parquet")], tmp_path) == 304
    examples = load_examples(str(tmp_path / "mathvision_testmini.parquet"), check_images=True)
    assert data_hash(examples, 304) == load_protocol("mathvision_testmini").data_sha256
    for example in examples:
        gold = parse_gold(example.answer)
        right = gold.alternatives[0]
        assert accepted(example, [right]) == [right]
        texts = dict(zip("ABCDE", gold.choices))
        wrong = [said for letter, text in texts.items() if letter != right for said in (letter, text)]
        if example.id != "742":  # its option D is the letter E
            assert accepted(example, wrong) == []
