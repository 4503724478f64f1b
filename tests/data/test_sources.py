"""The same rows come out of every kind of source; what cannot be read is said with its file."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value

from gmpo_vl.data.examples import examples_from_rows, load_examples
from gmpo_vl.data.formats import ArrowRows
from gmpo_vl.data.rows import Columns, DataError, RowError
from gmpo_vl.data.sources import open_tables
from gmpo_vl.data.writing import write_parquet


def dataset_of(rows: list[dict]) -> Dataset:
    features = {
        "images": List(Image()),
        "problem": Value("string"),
        "answer": Value("string"),
        "id": Value("string"),
    }
    stored = [{**row, "images": [{"bytes": b, "path": None} for b in row["images"]]} for row in rows]
    return Dataset.from_list(stored, features=Features(features))


def write_as(kind: str, rows: list[dict], folder: Path) -> str:
    """Put the rows down in one of the forms a source can have; returns how to name it."""
    if kind == "parquet":
        write_parquet(folder / "a.parquet", rows, {"id": "string"})
        return str(folder / "a.parquet")
    if kind == "parquet of plain bytes":
        pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
        return str(folder / "a.parquet")
    if kind == "saved":
        dataset_of(rows).save_to_disk(str(folder / "saved"))
        return str(folder / "saved")
    if kind == "saved splits":
        empty = dataset_of(rows[:1])
        DatasetDict({"train": empty, "hard": dataset_of(rows)}).save_to_disk(str(folder / "saved"))
        return str(folder / "saved") + "@hard"
    if kind == "arrow":
        dataset_of(rows).save_to_disk(str(folder / "saved"))
        return str(next((folder / "saved").glob("*.arrow")))
    if kind == "folder":
        (folder / "part").mkdir()
        write_parquet(folder / "part" / "a.parquet", rows[:2], {"id": "string"})
        write_parquet(folder / "part" / "b.parquet", rows[2:], {"id": "string"})
        (folder / "part" / "README.md").write_text("not data")
        (folder / "part" / ".hidden.parquet").write_text("not data")
        return str(folder / "part")
    paths = []
    for i, row in enumerate(rows):
        paths.append([str(folder / f"{i}-{j}.png") for j in range(len(row["images"]))])
        for path, data in zip(paths[-1], row["images"], strict=True):
            Path(path).write_bytes(data)
    plain = [{**row, "images": p} for row, p in zip(rows, paths, strict=True)]
    if kind == "json array":
        (folder / "a.json").write_text(json.dumps(plain, indent=2))
        return str(folder / "a.json")
    if kind in ("csv", "tsv"):
        return str(write_table(folder / f"a.{kind}", plain))
    text = "\n".join(json.dumps(row) for row in plain)
    suffix = {"jsonl": ".jsonl", "json lines": ".json"}[kind]
    with_bom_and_blank_lines = b"\xef\xbb\xbf" + text.replace("\n", "\r\n\n").encode()
    (folder / f"a{suffix}").write_bytes(with_bom_and_blank_lines)
    return str(folder / f"a{suffix}")


def write_table(path: Path, rows: list[dict]) -> Path:
    """As a spreadsheet writes it: BOM, quotes, \\r\\n. A cell holds one picture, so rows with several are
    text only here.
    """
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
        writer.writerow(["images", "problem", "answer", "id"])
        writer.writerows(
            [[r["images"][0] if r["images"] else "", r["problem"], r["answer"], r["id"]] for r in rows]
        )
    return path


KINDS = [
    "parquet",
    "parquet of plain bytes",
    "saved",
    "saved splits",
    "arrow",
    "folder",
    "json array",
    "jsonl",
    "json lines",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_examples(kind, rows, tmp_path):
    examples = load_examples(write_as(kind, rows, tmp_path), check_images=True)
    assert len(examples) == examples.num_rows == 4
    assert [e.id for e in examples] == ["q0", "q1", "q2", "q3"]
    assert [e.problem for e in examples] == [r["problem"] for r in rows]
    assert [e.answer for e in examples] == ["0", "1", "2", "3"]
    for example, row in zip(examples, rows, strict=True):
        assert [Path(s).read_bytes() if isinstance(s, str) else s for s in example.images] == row["images"]


def test_a_table_as_text_gives_the_same_rows_in_any_order(rows, tmp_path):
    rows = [row for row in rows if len(row["images"]) < 2]
    rows[1]["problem"] = '<image>Two lines,\nand "quotes".'
    for kind in ("csv", "tsv"):
        path = write_as(kind, rows, tmp_path)
        examples = load_examples(path, check_images=True)
        assert [(e.id, e.problem, e.answer) for e in examples] == [
            (r["id"], r["problem"], r["answer"]) for r in rows
        ]
        assert [len(e.images) for e in examples] == [len(r["images"]) for r in rows]
        table = open_tables(path)[0].rows
        assert [table[i] for i in (2, 0, 1)] == [list(table.scan([]))[i] for i in (2, 0, 1)]


def test_rows_in_memory_and_a_loaded_dataset(rows):
    for held in (rows, dataset_of(rows), dataset_of(rows).select([0, 1, 2, 3])):
        examples = examples_from_rows(held, "mine", Columns(id_key=None))
        assert [e.id for e in examples] == ["mine:0", "mine:1", "mine:2", "mine:3"]
        assert [e.images for e in examples] == [tuple(r["images"]) for r in rows]


def test_scanning_and_reading_leave_pictures_encoded(rows, tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.open", lambda *_: pytest.fail("a picture was opened"))
    examples = load_examples(write_as("parquet", rows, tmp_path))
    assert all(isinstance(image, bytes) for example in examples for image in example.images)


def test_files_of_the_same_name_get_different_ids(rows, tmp_path):
    for name in ("one", "two"):
        write_parquet(tmp_path / name / "a.parquet", rows)
    files = [str(tmp_path / name / "a.parquet") for name in ("one", "two")]
    examples = load_examples(files)
    assert [e.id for e in examples] == [*(f"a:{i}" for i in range(4)), *(f"a#2:{i}" for i in range(4))]
    assert examples.place(5)[0].name == files[1]
    assert examples.place(5)[1] == 1


def test_what_cannot_be_read_is_said(tmp_path, rows):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 this is none")
    (tmp_path / "bad.json").write_text('[{"problem": "x"')
    (tmp_path / "a.xlsx").write_text("PK")
    (tmp_path / "twice.csv").write_text("problem,answer,answer\n1,2,3\n")
    pq.write_table(pa.table({"problem": pa.array([], pa.string()), "answer": []}), tmp_path / "none.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.jsonl").write_text("")
    write_parquet(tmp_path / "good.parquet", rows)
    dataset_of(rows).save_to_disk(str(tmp_path / "saved"))
    dataset_of(rows).save_to_disk(str(tmp_path / "torn"))
    next((tmp_path / "torn").glob("*.arrow")).unlink()
    for source, said in (
        ("bad.parquet", "bad.parquet: cannot be read as parquet"),
        ("bad.json", "bad.json: not a JSON array of rows"),
        ("a.xlsx", r"a.xlsx: no known format; files end in .parquet"),
        ("twice.csv", "the first line must name every column once"),
        ("empty", "no data file in this folder"),
        ("empty.jsonl", "empty.jsonl: no usable row: the file has 0 bytes"),
        ("none.parquet", "none.parquet: no usable row: there is none in it"),
        ("nothing.parquet", "no such file or folder"),
        ("good.parquet@test", "a single file has no split 'test'"),
        ("saved@test", "without splits; leave @test away"),
        ("torn", "not readable as a saved data set"),
    ):
        with pytest.raises(DataError, match=said):
            load_examples(str(tmp_path / source))
    with pytest.raises(DataError, match="no data file is named"):
        load_examples([])


@pytest.mark.parametrize("kind", ["parquet", "saved", "jsonl", "json array", "csv"])
def test_a_missing_column_is_told_once_with_the_columns_and_the_nearest(rows, tmp_path, kind):
    source = write_as(kind, rows, tmp_path)
    for columns, option in (
        (Columns(prompt_key="prompt"), "data.prompt_key=problem"),
        (Columns(answer_key="anwser"), "data.answer_key=answer"),
        (Columns(image_key="image"), "data.image_key=images"),
        (Columns(id_key="problm", called={"id_key": "--id-key"}.get), "--id-key=problem"),
    ):
        with pytest.raises(DataError) as raised:
            load_examples(source, columns, on_bad_row="skip")
        said = str(raised.value)
        assert "images, problem, answer" in said
        assert f"Set {option}." in said
        assert "\n" not in said


def test_a_hub_id_is_loaded_by_datasets_with_its_split(rows, monkeypatch):
    import datasets

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def from_the_hub(name, split):
        assert (name, split) == ("someone/geometry3k", "test")
        return dataset_of(rows)

    monkeypatch.setattr(datasets, "load_dataset", from_the_hub)
    examples = load_examples("someone/geometry3k@test", Columns(id_key=None))
    assert examples[0].id == "geometry3k@test:0"


def test_writing_leaves_no_half_file(rows, tmp_path):
    def breaks():
        yield from rows
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_parquet(tmp_path / "a.parquet", breaks())
    assert not list(tmp_path.iterdir())
    assert write_parquet(tmp_path / "a.parquet", rows * 50) == 200
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 4


def cut(value):
    """What a scan makes of a value: the first byte, any byte, of bytes."""
    if isinstance(value, bytes):
        return b"x"[: len(value)]
    if isinstance(value, list):
        return [cut(item) for item in value]
    return {key: cut(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("kind", ["struct", "binary", "string", "large"])
def test_a_scan_sees_what_a_read_sees_but_for_the_bytes(kind):
    """Nulls at every level, empty lists, slices that start anywhere, several chunks."""
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    types = {
        "struct": pa.list_(picture),
        "binary": pa.list_(pa.binary()),
        "string": pa.list_(pa.string()),
        "large": pa.large_list(pa.large_binary()),
    }
    stored = {"bytes": b"abc", "path": None}
    items = {
        "struct": [stored, None, {"bytes": None, "path": "a.png"}, {"bytes": b"", "path": ""}, stored],
        "string": ["a.png", None, "", "b.png", "c.png"],
    }.get(kind, [b"abc", None, b"", b"d", b"ef"])
    column = pa.chunked_array(
        [
            pa.array([items[:2], None, [], items[2:], items[1:4], None], types[kind]),
            pa.array([[None], items, []], types[kind]),
        ]
    )
    for start in range(len(column)):
        for length in (1, 3, 9):
            part = column.slice(start, length)
            dataset = Dataset(pa.table({"images": part, "n": range(len(part))}))
            scanned = list(ArrowRows(dataset).scan(["images", "images", "gone"]))
            assert [row["images"] for row in scanned if isinstance(row, dict)] == cut(part.to_pylist())
            assert [ArrowRows(dataset)[i]["images"] for i in range(len(part))] == part.to_pylist()


def test_a_file_written_again_is_read_again(rows, tmp_path):
    """`datasets` keeps a copy of what it read: it must not outlive the file's content."""
    path = str(tmp_path / "a.parquet")
    write_parquet(path, rows)
    assert load_examples(path)[1].answer == "1"
    write_parquet(path, [{**row, "answer": "7"} for row in rows])
    assert load_examples(path)[1].answer == "7"


def test_texts_are_those_of_the_examples_without_their_pictures(rows, tmp_path, monkeypatch):
    bad = {**rows[0], "answer": ""}
    write_parquet(tmp_path / "a.parquet", [rows[0], bad, *rows[1:]])
    (tmp_path / "b.jsonl").write_text(
        '{"problem": "x?", "answer": 1}\n{"broken\n{"problem": "y?", "answer": 2}\n'
    )
    examples = load_examples([str(tmp_path / "a.parquet"), str(tmp_path / "b.jsonl")], on_bad_row="skip")
    expected = [(e.id, e.problem, e.answer) for e in examples]
    assert [e[0] for e in expected] == ["a:0", "a:2", "a:3", "a:4", "b:0", "b:2"]
    monkeypatch.setattr(ArrowRows, "__getitem__", lambda *_: pytest.fail("a whole row was read"))
    assert list(examples.texts()) == expected


def test_a_row_that_changed_since_the_check_is_named(png, tmp_path):
    (tmp_path / "a.png").write_bytes(png)
    row = {"problem": "<image>x?", "answer": "1", "images": [str(tmp_path / "a.png")]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    examples = load_examples(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.png").unlink()
    with pytest.raises(RowError, match=r"a.jsonl, row 0: image 1 of 1: no file"):
        examples[0]
