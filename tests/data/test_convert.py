"""`data new` and `data convert`: any table to EasyR1's columns, and a card that says what became of every
row.
"""

import csv
import json

import pyarrow.parquet as pq
import pytest

from gmpo_vl.cli import main
from gmpo_vl.data.convert import convert
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import DataError
from gmpo_vl.data.start.write import write_python_start
from gmpo_vl.data.writing import write_parquet


def write_mapping(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def photos(tmp_path, png):
    """A folder of pictures with a table: what people have."""
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for name in ("1.png", "2.png", "a/3.png"):
        (tmp_path / "photos" / name).write_bytes(
            png + name.encode()
        )  # trailing bytes: other files, same picture
    with (tmp_path / "photos" / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "question", "count"])
        writer.writerows([["1.png", "How many?", 3], ["2.png", "How many?", 4], ["3", "How many?", 5]])
        writer.writerow(["gone.png", "How many?", 6])
        writer.writerow(["1.png", "How many?", ""])
    return tmp_path / "photos"


def test_a_folder_with_a_table_becomes_parquet_with_a_card(photos, tmp_path):
    path = write_mapping(
        tmp_path / "m.yaml",
        'source: photos\nimage_folder: photos\nimages: file\nproblem: "{{ question }} Count."\n'
        "answer: count\nid: file\n",
    )
    card = convert(path, tmp_path / "out")
    assert (card.rows_in, card.splits["train"].rows, card.splits["train"].pictures) == (5, 3, 3)
    assert card.dropped == {"image_missing": 1, "empty_answer": 1}
    assert [fault["row"] for fault in card.faults] == [3, 4]
    examples = load_examples(str(tmp_path / "out/train.parquet"), check_images=True)
    assert [(e.problem, e.answer, e.id) for e in examples] == [
        ("<image>How many? Count.", n, i) for n, i in (("3", "1.png"), ("4", "2.png"), ("5", "3"))
    ]
    assert examples[2].images[0] == (photos / "a/3.png").read_bytes()
    written = json.loads((tmp_path / "out/data_card.json").read_text())
    assert written["splits"]["train"]["sha256"] == card.splits["train"].sha256
    assert written["preparation"] == path.read_text()


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json", "csv"])
def test_every_format_gives_the_same_card(kind, tmp_path):
    rows = [{"q": f"What is {i} + 1?", "a": str(i + 1)} for i in range(30)]
    source = tmp_path / f"a.{kind}"
    if kind == "parquet":
        import pyarrow as pa

        pq.write_table(pa.Table.from_pylist(rows), source)
    elif kind == "csv":
        source.write_text("q,a\n" + "".join(f"{r['q']},{r['a']}\n" for r in rows))
    else:
        source.write_text(json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows)))
    path = write_mapping(
        tmp_path / "m.yaml", f"source: {source.name}\nproblem: q\nanswer: a\nvalidation: 0.3\n"
    )
    card = convert(path, tmp_path / "out")
    # The same rows on the same sides, whatever file they came in.
    assert {name: s.rows for name, s in card.splits.items()} == {"train": 19, "validation": 11}
    assert card.splits["validation"].sha256.startswith("b941be7b30e8")
    texts = [
        json.dumps([r["problem"], r["answer"]])
        for name in ("train", "validation")
        for r in pq.read_table(tmp_path / "out" / f"{name}.parquet").to_pylist()
    ]
    assert sorted(texts) == sorted(json.dumps([r["q"], r["a"]]) for r in rows)


def test_rows_are_kept_by_a_condition_and_columns_carried(tmp_path):
    rows = [{"q": f"x{i}?", "a": "1", "level": i, "split": "train" if i % 2 else "test"} for i in range(6)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"q": "y?", "a": "1"}])))
    path = write_mapping(
        tmp_path / "m.yaml",
        "source: a.jsonl\nproblem: q\nanswer: a\nkeep: level >= 3 and split == 'train'\ncarry: [level]\n",
    )
    card = convert(path, tmp_path / "out")
    assert (card.rows_in, card.not_kept, card.dropped) == (7, 4, {"keep": 1})
    assert [row["level"] for row in pq.read_table(tmp_path / "out/train.parquet").to_pylist()] == [3, 5]


def test_nothing_left_is_an_error_and_an_old_file_stays(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"q": "x?", "a": "1"}\n')
    path = write_mapping(tmp_path / "m.yaml", "source: a.jsonl\nproblem: q\nanswer: a\n")
    convert(path, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "a.jsonl").write_text('{"q": "x?", "a": ""}\n')
    with pytest.raises(
        DataError, match=r"no row is left for train\.parquet: of 1 rows 1 dropped\n1 bad row: empty_answer"
    ):
        convert(path, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    assert set(before) == {"train.parquet", "data_card.json"}


def test_the_card_counts_rows_without_a_picture(tmp_path, png):
    rows = [{"image": png if n % 3 else None, "q": f"{n}?", "a": "1"} for n in range(10)]
    write_parquet_of(rows, tmp_path / "a.parquet")
    text = "source: a.parquet\nproblem: q\nanswer: a\n"
    card = convert(write_mapping(tmp_path / "m.yaml", f"{text}images: image\n"), tmp_path / "out")
    assert (card.splits["train"].pictures, card.splits["train"].without_picture) == (6, 4)
    assert card.summary().startswith("train.parquet: 10 rows with 6 pictures (rows without a picture: 4)\n")
    assert (
        json.loads((tmp_path / "out/data_card.json").read_text())["splits"]["train"]["without_picture"] == 4
    )
    said = convert(write_mapping(tmp_path / "m.yaml", text), tmp_path / "text").summary()
    assert said.startswith("train.parquet: 10 rows with 0 pictures\n")  # text only, as the mapping says


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_it_reads_and_what_others_wrote_is_never_overwritten(tmp_path):
    data = tmp_path / "data"
    write_parquet(data / "train.parquet", [{"images": [], "problem": "x?", "answer": "1"}])
    before = contents(data)
    for source in ("data/train.parquet", "data"):
        path = write_mapping(tmp_path / "m.yaml", f"source: {source}\nproblem: problem\nanswer: answer\n")
        with pytest.raises(DataError, match=r"train\.parquet is read here"):
            convert(path, data)
    other = write_mapping(tmp_path / "n.yaml", "source: a.jsonl\nproblem: q\nanswer: a\n")
    (tmp_path / "a.jsonl").write_text('{"q": "x?", "a": "1"}\n')
    with pytest.raises(DataError, match=r"without a data_card\.json beside it"):
        convert(other, data)
    script = tmp_path / "prep.py"
    script.write_text(
        "SPLITS = ('train',)\ndef rows(source, split):\n    raise AssertionError('never asked')\n"
    )
    for source in (data, data / "train.parquet"):
        with pytest.raises(DataError, match=r"train\.parquet is read here"):
            convert(script, data, source=str(source))
    assert contents(data) == before


def test_a_split_of_an_earlier_conversion_does_not_stay_beside_another_cut(tmp_path):
    rows = [json.dumps({"q": f"What is {i}?", "a": str(i)}) for i in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    text = "source: a.jsonl\nproblem: q\nanswer: a\n"
    path, out = write_mapping(tmp_path / "m.yaml", text + "validation: 0.5\n"), tmp_path / "out"
    assert convert(path, out).replaced == []
    assert convert(path, out).replaced == ["train.parquet", "validation.parquet"]
    (out / "mine.parquet").write_bytes(b"mine")
    said = convert(write_mapping(path, text), out).summary()
    assert "replaced, of an earlier conversion: train.parquet" in said
    assert "removed, of an earlier conversion: validation.parquet" in said
    assert {p.name for p in out.iterdir()} == {"train.parquet", "data_card.json", "mine.parquet"}
    convert(write_mapping(path, text + "validation: 0.5\n"), out)
    write_mapping(path, "source: out/validation.parquet\nproblem: problem\nanswer: answer\n")
    with pytest.raises(DataError, match=r"validation\.parquet is read here"):
        convert(path, out)


def test_a_source_given_with_the_command_stands_for_one_split_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.jsonl").write_text('{"q": "x?", "a": "1"}\n')
    one = write_mapping(tmp_path / "m.yaml", "source: {test: gone.jsonl}\nproblem: q\nanswer: a\n")
    assert list(convert(one, tmp_path / "out", source="b.jsonl").splits) == ["test"]
    two = write_mapping(
        tmp_path / "two.yaml", "source: {train: a.jsonl, test: b.jsonl}\nproblem: q\nanswer: a\n"
    )
    with pytest.raises(DataError, match=r"2 splits \(train, test\)"):
        convert(two, tmp_path / "out", source="b.jsonl")

    for offline in ("datasets.config.HF_HUB_OFFLINE", "huggingface_hub.constants.HF_HUB_OFFLINE"):
        monkeypatch.setattr(offline, True)
    with pytest.raises(
        DataError,
        match=r"^--source nobody/nothing@test: nobody/nothing: there is no such file or folder here, "
        r"and the hub",
    ):
        convert(one, tmp_path / "other", source="nobody/nothing@test")
    with pytest.raises(DataError, match="is a folder, not a mapping file"):
        convert(tmp_path, tmp_path / "other")


def test_a_python_file_says_what_a_mapping_cannot(tmp_path, png):
    (tmp_path / "pics").mkdir()
    for name in ("3_a", "4_b"):
        (tmp_path / f"pics/{name}.png").write_bytes(png)
    path = write_python_start("mine", folder=tmp_path)
    text = (
        path.read_text()
        .replace("source / split).glob", "source).glob")
        .replace('("train", "test")', '("train",)')
    )
    path.write_text(text)
    assert len(text.splitlines()) <= 80
    card = convert(path, tmp_path / "out", source=str(tmp_path / "pics"))
    assert card.splits["train"].rows == 2
    assert [e.answer for e in load_examples(str(tmp_path / "out/train.parquet"))] == ["3", "4"]
    with pytest.raises(DataError, match="needs --source"):
        convert(path, tmp_path / "out")


def write_parquet_of(rows: list[dict], path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


def test_one_source_stands_for_all_splits_that_say_their_part(tmp_path, png):
    folder = tmp_path / "set"
    folder.mkdir()
    for name, question in (("train-0", "a"), ("train-1", "b"), ("test-0", "c")):
        write_parquet_of([{"image": png, "q": question, "a": "1"}], folder / f"{name}.parquet")
    body = "\nimages: image\nproblem: q\nanswer: a\n"
    splits = write_mapping(tmp_path / "m.yaml", "source: {train: hub/x@train, test: hub/x@test}" + body)
    card = convert(splits, tmp_path / "out", source=str(folder))
    assert {name: split.rows for name, split in card.splits.items()} == {"train": 2, "test": 1}
    assert [e.problem for e in load_examples(str(tmp_path / "out/test.parquet"))] == ["<image>c"]
    with pytest.raises(DataError, match="2 splits"):
        convert(splits, tmp_path / "out", source=f"{folder}@train")
    files = write_mapping(tmp_path / "f.yaml", "source: {train: a.parquet, test: b.parquet}" + body)
    with pytest.raises(DataError, match="behind an @"):
        convert(files, tmp_path / "out2", source=str(folder))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import nothing_here", "line 1: ModuleNotFoundError"),
        (
            "def rows(source, split):\n    raise KeyError('mine')\nSPLITS = ('train',)",
            r"line 2: rows\(\) raised KeyError: 'mine'",
        ),
        ("import sys\nsys.exit(1)", "line 2: SystemExit: 1"),
        (
            "def rows(source, split):\n    exit()\nSPLITS = ('train',)",
            r"line 2: rows\(\) raised SystemExit",
        ),
        (
            "def rows(source, split):\n    yield 5\nSPLITS = ('train',)",
            "not an object with columns but of type int",
        ),
        ("def rows(source, split:", "SyntaxError"),
    ],
)
def test_what_is_wrong_in_a_python_file_is_told_with_its_line(body, said, tmp_path):
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(DataError, match=said):
        convert(tmp_path / "mine.py", tmp_path / "out", source=str(tmp_path))


def test_a_file_in_the_place_of_the_folder_is_told(photos, tmp_path):
    path = write_mapping(tmp_path / "m.yaml", f"source: {photos}\nproblem: question\nanswer: count\n")
    (tmp_path / "out").write_text("x")
    with pytest.raises(DataError, match="out is a file; name a folder"):
        convert(path, tmp_path / "out")


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "convert", "m.yaml", "out", "--rows", "-1"],
        ["data", "convert", "m.yaml", "out", "--rows", "0"],
        ["data", "show", "run.yaml", "--rows", "-3"],
        ["data", "show", "run.yaml", "--rows", "many"],
        ["data", "check", "run.yaml", "--workers", "-2"],
        ["eval", "regrade", "results", "--processes", "0"],
        ["eval", "page", "results", "--questions", "-1"],
    ],
)
def test_a_number_that_cannot_be_is_refused_at_its_option(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert f"argument {arguments[-2]}: {arguments[-1]!r} is no whole number from" in capsys.readouterr().err


def test_a_folder_of_pictures_is_no_mapping_and_is_told_so(photos, tmp_path, capsys):
    assert main(["data", "convert", str(photos), str(tmp_path / "out")]) == 2
    assert f"{photos} is a folder, not a mapping file; `gmpo-vl data new NAME" in capsys.readouterr().err


CARDS = (
    "",
    "{",
    "[]",
    "5",
    "{}",
    "[" * 100_000,
    '{"splits": 5}',
    '{"splits": null}',
    '{"splits": ["train"]}',
    "\udcff",
)


@pytest.mark.parametrize("card", CARDS, ids=range(len(CARDS)))
def test_a_damaged_card_is_told_and_nothing_changes(tmp_path, card, capsys):
    (tmp_path / "a.jsonl").write_text('{"q": "x?", "a": "1"}\n')
    path = write_mapping(tmp_path / "m.yaml", "source: a.jsonl\nproblem: q\nanswer: a\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/train.parquet").write_text("mine")
    (tmp_path / "out/data_card.json").write_bytes(card.encode("utf-8", "surrogateescape"))
    assert main(["data", "convert", str(path), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'out/data_card.json'} is " in said
    assert "write to another folder" in said
    assert (tmp_path / "out/train.parquet").read_text() == "mine"


def test_splits_of_a_card_that_leave_the_folder_are_none_of_a_conversion(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"q": "x?", "a": "1"}\n')
    path, out = (
        write_mapping(tmp_path / "m.yaml", "source: a.jsonl\nproblem: q\nanswer: a\n"),
        tmp_path / "out",
    )
    out.mkdir()
    (tmp_path / "x.parquet").write_text("mine")
    splits = {"../x": {}, str(tmp_path / "x"): {}, "..": {}, "": {}, "a/../../x": {}}
    (out / "data_card.json").write_text(json.dumps({"splits": splits}))
    assert convert(path, out).replaced == []
    assert (tmp_path / "x.parquet").read_text() == "mine"


@pytest.mark.parametrize("name", ["train.parquet", "data_card.json"])
def test_a_folder_in_the_place_of_a_file_is_told_before_anything_is_written(tmp_path, name):
    (tmp_path / "a.jsonl").write_text('{"q": "x?", "a": "1"}\n')
    path, out = (
        write_mapping(tmp_path / "m.yaml", "source: a.jsonl\nproblem: q\nanswer: a\n"),
        tmp_path / "out",
    )
    convert(path, out)
    (out / name).unlink()
    (out / name).mkdir()
    with pytest.raises(DataError, match=rf"{name} is (a folder|damaged: it is a folder)"):
        convert(path, out)
    assert (out / name).is_dir()
    assert not (out / ".unfinished").exists()


@pytest.mark.parametrize(("bad", "is_said"), [(2, False), (3, True)])
def test_a_conversion_that_lost_most_rows_warns(bad, is_said, tmp_path, capsys):
    rows = [{"q": "x?", "a": "" if i < bad else "1", "k": i < 5} for i in range(9)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = write_mapping(tmp_path / "m.yaml", "source: a.jsonl\nproblem: q\nanswer: a\nkeep: k\n")
    assert main(["data", "convert", str(path), str(tmp_path / "out")]) == 0
    assert (f"WARNING: {bad} of 5 rows were dropped" in capsys.readouterr().err) is is_said
