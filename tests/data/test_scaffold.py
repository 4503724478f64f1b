"""`data new`: three files from a table, of which the two next commands need nothing else."""

import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from planted import encoded, picture

from gmpo_vl.cli import main
from gmpo_vl.config import load_config
from gmpo_vl.data.convert import convert
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.mapping import KEYS, load_mapping
from gmpo_vl.data.rows import DataError
from gmpo_vl.data.start.write import Start, write_python_start, write_start
from gmpo_vl.evaluation.protocols import load_protocol
from gmpo_vl.models.loading import NoModelFolder, model_folder
from gmpo_vl.models.tiny import packaged_tiny
from gmpo_vl.runs import Run


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def lines(path: str, rows: list[dict]) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(count: int, **more) -> list[dict]:
    return [{"question": f"What is {i} + 1?", "answer": str(i + 1), **more} for i in range(count)]


def guessed(start: Start) -> dict:
    return {guess.key: guess.value for guess in start.guesses}


def test_two_commands_after_it_are_a_run(here):
    Path("set/pictures").mkdir(parents=True)
    rows = ["file,question,answer,colour"]
    for i in range(12):
        picture(i).save(f"set/pictures/{i}.png")
        rows.append(f"{i}.png,How many squares are there?,{i},red")
    Path("set/questions.csv").write_text("\n".join(rows))
    assert main(["data", "new", "mine", "--source", "set/questions.csv"]) == 0
    assert main(["data", "convert", "mine.yaml", "data/mine"]) == 0
    assert main(["train", "mine_run.yaml"]) == 0
    assert Run("runs/mine").read_metrics()[-1]["step"] == 3
    parts = [load_examples(f"data/mine/{split}.parquet") for split in ("train", "validation")]
    assert len(parts[0]) + len(parts[1]) == 12
    assert len(parts[1]) > 0
    assert all(len(e.images) == 1 for part in parts for e in part)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 40, 400])
def test_a_table_of_any_size_has_a_run(count):
    start = write_start("mine", lines("a.jsonl", questions(count)))
    card = convert("mine.yaml", "data/mine")
    config = load_config("mine_run.yaml")
    assert card.splits["train"].rows > 0
    assert config.data.rollout_batch_size <= count
    assert ("validation" in card.splits) == (count > 1) == bool(config.data.val_files)
    assert "validation.parquet" in start.files[0].read_text() or count == 1


def test_the_mapping_says_why_and_what_else_can_be_said():
    text = write_start("mine", lines("a.jsonl", questions(5, level=3))).files[0].read_text()
    assert "\nproblem: question  # its name, and texts in it\n" in text
    assert "#   question: What is 0 + 1?\n" in text
    assert "# carry: [level]  # " in text
    assert all(f"\n{key}: " in text or f"\n# {key}: " in text for key in KEYS)
    assert load_mapping("mine.yaml").answer == "answer"


def test_what_is_not_guessed_is_asked_for_once(capsys):
    lines("a.jsonl", [{"thing": f"object {i % 2}", "n": i, "k": "x"} for i in range(9)])
    assert main(["data", "new", "mine", "--source", "a.jsonl"]) == 0
    said = capsys.readouterr().out
    assert "NOT guessed: problem" in said
    assert "NOT guessed: answer" in said
    assert "The columns are: thing, n, k" in said
    assert main(["data", "convert", "mine.yaml", "out"]) == 2
    assert capsys.readouterr().err == (
        "gmpo-vl: mine.yaml: problem and answer: COLUMN stands for a column that is still to be named: "
        "k, n, thing\n"
    )
    assert not Path("out").exists()


def test_all_three_files_are_written_or_none():
    lines("a.jsonl", questions(4))
    Path("mine_eval.yaml").write_text("mine")
    with pytest.raises(DataError, match=r"mine_eval\.yaml exists already"):
        write_start("mine", "a.jsonl")
    assert not Path("mine.yaml").exists()
    with pytest.raises(DataError, match=r"gone\.csv: no such file or folder"):
        write_start("other", "gone.csv")
    Path("ragged.csv").write_text("question,answer\na,1,2\n")
    with pytest.raises(DataError, match=r"no row of it can be read; .*ragged.csv, row 0: 3 cells"):
        write_start("other", "ragged.csv")
    with pytest.raises(DataError, match="--image-folder nowhere: there is no such folder"):
        write_start("other", "a.jsonl", image_folder="nowhere")
    assert not list(Path().glob("other*"))


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 101, "a.yaml"])
def test_a_name_that_can_be_no_files_is_refused(name):
    with pytest.raises(DataError, match="becomes a file's"):
        write_start(name, lines("a.jsonl", questions(4)))


def test_a_python_file_hides_no_module():
    with pytest.raises(DataError, match="would hide the module 'json'"):
        write_python_start("json")
    assert write_python_start("my_preparation") == Path("my_preparation.py")


def test_splits_that_a_table_has_are_used():
    for split in ("train", "val", "test"):
        lines(f"files/{split}.jsonl", questions(6))
    write_start("folder", "files")
    card = convert("folder.yaml", "data/folder")
    assert {name: split.rows for name, split in card.splits.items()} == dict.fromkeys(
        ("train", "validation", "test"), 6
    )
    assert yaml.safe_load(Path("folder_eval.yaml").read_text())["data"] == "data/folder/test.parquet"
    assert load_config("folder_run.yaml").data.val_files == "data/folder/validation.parquet"


def test_a_column_that_names_splits_is_used():
    names = ["train", "train", "dev", "test"]
    rows = [{**row, "split": names[i % 4]} for i, row in enumerate(questions(40))]
    assert guessed(write_start("mine", lines("a.jsonl", rows)))["split_column"] == "split"
    card = convert("mine.yaml", "data/mine")
    assert {name: split.rows for name, split in card.splits.items()} == {
        "train": 20,
        "validation": 10,
        "test": 10,
    }
    assert card.rows_in == 40
    rows[7]["split"] = None
    lines("a.jsonl", rows)
    with pytest.raises(DataError, match="row 7: split_column: 'split' is None, which names no split"):
        convert("mine.yaml", "data/mine")


@pytest.mark.parametrize(
    ("column", "names", "splits"),
    [
        ("data_split", ("train", "val", "test"), {"train", "validation", "test"}),  # DUDE
        ("dataSplit", ("Train", "Validation"), {"train", "validation"}),
        ("question_split", ("train", "dev", "testmini"), {"train", "validation", "testmini"}),
        ("usage", ("train", "val"), {"train", "validation"}),
    ],
)
def test_a_column_of_another_name_that_names_splits_is_used(column, names, splits):
    rows = [{column: names[i % len(names)], **row} for i, row in enumerate(questions(24))]
    assert guessed(write_start("mine", lines("a.jsonl", rows)))["split_column"] == column
    assert convert("mine.yaml", "data/mine").splits.keys() == splits


@pytest.mark.parametrize(
    ("column", "names"), [("vehicle", ("train", "bus")), ("subset", ("easy", "hard")), ("split", ("train",))]
)
def test_a_column_of_other_words_names_no_splits(column, names):
    rows = [{column: names[i % len(names)], **row} for i, row in enumerate(questions(24))]
    assert "split_column" not in guessed(write_start("mine", lines("a.jsonl", rows)))


def test_an_answer_that_is_train_names_no_split():
    rows = [{"question": f"What is in picture {i}?", "answer": ("train", "test")[i % 2]} for i in range(24)]
    assert "split_column" not in guessed(write_start("mine", lines("a.jsonl", rows)))


def test_names_of_columns_are_written_as_yaml_reads_them():
    rows = [{"yes": f"q: {i} #?", "the: #answer": str(i), "question id": f"no{i}"} for i in range(5)]
    values = guessed(write_start("mine", lines("a.jsonl", rows)))
    assert (values["problem"], values["answer"]) == ("yes", "the: #answer")
    assert convert("mine.yaml", "out").dropped == {}


@pytest.mark.parametrize("name", ["2024", "null", "no", "0x10", "1e5", "1_000", "größe", "𝒜b"])
def test_any_name_of_a_set_is_a_text_in_its_files(name):
    write_start(name, lines("a.jsonl", questions(5)))
    convert(f"{name}.yaml", f"data/{name}")
    config = load_config(f"{name}_run.yaml")
    assert config.trainer.experiment_name == name
    assert (
        load_protocol(f"{name}_eval.yaml").data == config.data.val_files == f"data/{name}/validation.parquet"
    )


def test_a_source_puts_no_line_into_the_mapping():
    source = lines("a\nkeep: 1 == 0\n#.jsonl", questions(5))
    write_start("mine", source)
    mapping = load_mapping("mine.yaml")
    assert (mapping.source, mapping.keep) == (source, None)


def test_a_model_is_named_and_the_lines_for_a_tiny_one_are_gone():
    write_start("mine", lines("a.jsonl", questions(200)), model="Qwen/Qwen2.5-VL-3B-Instruct")
    config = load_config("mine_run.yaml")
    assert config.worker.actor.model.model_path == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert config.worker.actor.optim.lr == 1e-6
    assert config.worker.actor.fsdp.mp_param_dtype == "bf16"
    assert "tiny" not in Path("mine_run.yaml").read_text()


def test_the_packaged_model_has_a_path_that_is_the_same_everywhere(here):
    assert model_folder("package:gmpo_vl/models/pretrained") == packaged_tiny()
    for name in ("gmpo_vl/nothing", "other/x", "gmpo_vl/../gmpo_vl/models/pretrained"):
        with pytest.raises(NoModelFolder, match=r"its model is package:gmpo_vl/models/pretrained"):
            model_folder(f"package:{name}")


def test_an_archive_or_a_folder_beside_the_table_is_found(here):
    stored = {"question": "What?", "answer": "3", "image": "shapes/7.png"}
    lines("deep/annotations/a.jsonl", [stored] * 3)
    Path("deep/media/shapes").mkdir(parents=True)
    picture(7).save("deep/media/shapes/7.png")
    assert guessed(write_start("one", "deep/annotations/a.jsonl"))["image_folder"] == "deep/media"
    lines("zipped/a.jsonl", [stored] * 3)
    with zipfile.ZipFile("zipped/all.zip", "w") as archive:
        archive.writestr("shapes/7.png", encoded(picture(7)))
    write_start("three", "zipped/a.jsonl")
    assert convert("three.yaml", "out").dropped == {}
    start = write_start("two", "deep/annotations/a.jsonl", image_folder="deep")
    assert guessed(start)["image_folder"] == "deep"


@pytest.mark.parametrize("kind", ["folder", "folder above", "capital ending", "archive", "numbers"])
def test_ids_that_files_of_pictures_are_called_by_are_found(kind, here):
    """TextVQA: image_id without an ending, addresses beside it."""
    ids = [1000 + i if kind == "numbers" else f"00{i}4c91397f2fe" for i in range(6)]
    address = "https://farm2.example.com/3/{}_o.jpg"
    rows = [
        {**row, "question_id": str(i), "image_id": ids[i // 2], "flickr_url": address.format(i)}
        for i, row in enumerate(questions(12))
    ]
    source = lines("set/notes/a.jsonl" if kind == "folder above" else "set/a.jsonl", rows)
    ending = ".JPG" if kind == "capital ending" else ".jpg"
    files = {f"{name}{ending}": encoded(picture(i)) for i, name in enumerate(ids)}
    Path("set/train_images").mkdir()
    for name, content in files.items() if kind != "archive" else ():
        Path("set/train_images", name).write_bytes(content)
    if kind == "archive":
        with zipfile.ZipFile("set/all.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"train_images/{name}", content)
    start = write_start("mine", source)
    assert guessed(start)["images"] == ("{{ image_id }}" if kind == "numbers" else "image_id")
    assert not start.is_text_only
    card = convert("mine.yaml", "out")
    assert card.dropped == {}
    assert all(len(example.images) == 1 for example in load_examples("out/train.parquet"))


@pytest.mark.parametrize(
    ("name", "file"), [("fig.{}", "fig.{}.png"), ("Fig.{}a", "fig.{}A.PNG"), ("A{}", "a{}.jpeg")]
)
def test_ids_with_dots_and_of_another_case_name_pictures(name, file):
    rows = [{**row, "image_id": name.format(i)} for i, row in enumerate(questions(6))]
    source = lines("set/a.jsonl", rows)
    Path("set/pics").mkdir()
    for i in range(6):
        Path("set/pics", file.format(i)).write_bytes(encoded(picture(i)))
    values = guessed(write_start("mine", source))
    assert (values["images"], values["image_folder"]) == ("image_id", "set/pics")
    card = convert("mine.yaml", "out")
    assert card.dropped == {}
    assert sum(split.pictures for split in card.splits.values()) == 6


def test_pictures_of_every_split_beside_the_questions_are_found():
    """CLEVR: questions/train.json, images/train/1.png. InfographicVQA: a name of a file beside an address."""
    for split in ("train", "test"):
        address = "https://example.org/{}.png"
        rows = [{**row, "image_url": address.format(i)} for i, row in enumerate(questions(6))]
        rows = [{**row, "image_local_name": f"{split}_{i}.png"} for i, row in enumerate(rows)]
        lines(f"set/questions/{split}.jsonl", rows)
        Path(f"set/images/{split}").mkdir(parents=True)
        for i in range(6):
            picture(i).save(f"set/images/{split}/{split}_{i}.png")
    values = guessed(write_start("mine", "set/questions"))
    assert (values["images"], values["image_folder"]) == ("image_local_name", "set/images")
    card = convert("mine.yaml", "out")
    assert (card.dropped, card.splits["test"].pictures) == ({}, 6)


def test_rows_without_pictures_are_told(capsys):
    rows = [{**row, "id": f"n{i}", "level": str(i)} for i, row in enumerate(questions(6))]
    source = lines("set/a.jsonl", rows)
    picture(1).save("set/1.png")  # another thing's
    picture(2).save("set/4.png")
    assert main(["data", "new", "mine", "--source", source]) == 0
    assert "no column of pictures was found: these rows will be text only" in capsys.readouterr().out
    assert (
        "\n# No column of pictures was found: these rows will be text only." in Path("mine.yaml").read_text()
    )
    lines("b.jsonl", [{**row, "image": "set/1.png"} for row in rows])
    assert main(["data", "new", "other", "--source", "b.jsonl"]) == 0
    assert "text only" not in capsys.readouterr().out + Path("other.yaml").read_text()


@pytest.mark.parametrize(
    "names", [("image", "image2", "image3"), ("img_path", "img_path_2"), ("image_1", "image_2")]
)
def test_numbered_columns_of_pictures_are_taken_together(names):
    picture(1).save("same.png")
    rows = [{**row, **dict.fromkeys(names, "same.png")} for row in questions(4)]
    assert guessed(write_start("mine", lines("a.jsonl", rows)))["images"] == list(names)


def test_a_hint_of_what_will_be_dropped_comes_before_the_conversion(capsys):
    rows = [{"question": "What?", "answer": "3", "image": f"{i}.png"} for i in range(4)]
    assert main(["data", "new", "mine", "--source", lines("a.jsonl", rows)]) == 0
    said = capsys.readouterr().out
    assert "NOT guessed: image_folder (no '0.png' near a.jsonl)" in said
    assert "of these rows 4 will be dropped; 4 bad rows: image_missing 4" in said


def test_carried_lists_and_mappings_stay_what_they_are(capsys):
    rows = [
        {**row, "tags": ["a", "b"][: i % 3], "box": {"x": i, "of": [1.5]}, "mixed": [i] if i else "none"}
        for i, row in enumerate(questions(6))
    ]
    lines("a.jsonl", rows)
    same = [{name: value for name, value in row.items() if name != "mixed"} for row in rows]
    pq.write_table(pa.Table.from_pylist(same), "a.parquet")
    keys = "problem: question\nanswer: answer\ncarry: [tags, box"
    Path("m.yaml").write_text(f"source: a.jsonl\n{keys}, mixed]\n")
    Path("p.yaml").write_text(f"source: a.parquet\n{keys}]\n")
    card = convert("m.yaml", "m")
    convert("p.yaml", "p")
    for folder in ("m", "p"):
        found = pq.read_table(f"{folder}/train.parquet").to_pylist()
        assert [(row["tags"], row["box"]) for row in found] == [(row["tags"], row["box"]) for row in rows]
    assert [row["mixed"] for row in pq.read_table("m/train.parquet").to_pylist()][:2] == ["none", "[1]"]
    assert card.notes == ["carry: 'mixed' holds values of several types; they are written as text"]
    assert capsys.readouterr().err.count(card.notes[0]) == 1
    assert len(load_examples("m/train.parquet")) == 6


def test_encoded_pictures_need_no_folder():
    rows = [{"scan": encoded(picture(i)), "ask": f"Is {i} right?", "gold": 1} for i in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), "a.parquet")
    values = guessed(write_start("mine", "a.parquet"))
    assert (values["images"], values["problem"], values["answer"]) == ("scan", "ask", "gold")
    assert "image_folder" not in values
