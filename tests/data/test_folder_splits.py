"""Which files of a folder are read, and to which split they belong."""

import pytest

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import DataError
from gmpo_vl.data.sources import open_tables, splits_in
from gmpo_vl.data.writing import write_parquet


@pytest.mark.parametrize(
    "names",
    [
        {"train": "train-00000-of-00001.parquet", "validation": "val.parquet", "test": "test.parquet"},
        {
            "train": "data/train/0.parquet",
            "validation": "data/validation/0.parquet",
            "test": "data/test/0.parquet",
        },
        {"train": "training.parquet", "validation": "dev.parquet", "hard": "hard.parquet"},
    ],
)
def test_splits_of_a_folder_do_not_mix(names, rows, tmp_path):
    for i, name in enumerate(names.values()):
        write_parquet(tmp_path / name, rows[i : i + 1], {"id": "string"})
    for i, split in enumerate(names):
        assert [e.id for e in load_examples(f"{tmp_path}@{split}")] == [f"q{i}"]
    assert [e.id for e in load_examples(str(tmp_path))] == ["q0"]  # train, as in EasyR1
    with pytest.raises(DataError, match=r"no file .* named after split 'nothing'"):
        load_examples(f"{tmp_path}@nothing")


def test_odd_file_names_are_only_names(rows, tmp_path):
    for name in ("a [1]*.parquet", "me@home.parquet"):
        write_parquet(tmp_path / name, rows)
        assert len(load_examples(str(tmp_path / name))) == 4


NAMED = [
    (["train.json", "validate.json"], {"train": ["train"], "validation": ["validate"]}, []),
    (["train2014.json", "val2014.json"], {"train": ["train2014"], "validation": ["val2014"]}, []),
    (
        ["train.json", "minival.json", "test1k.json", "testdev.json", "foo.json"],
        {"train": ["train"], "validation": ["minival"], "test": ["test1k", "testdev"]},
        ["foo.json"],
    ),
    (
        ["train.json", "test.json", "testmini.json"],
        {"train": ["train"], "test": ["test"]},
        ["testmini.json"],
    ),
    (["train_a/more.json", "train_a/test.json"], {"train": ["more"], "test": ["test"]}, []),
    (
        ["p_train.json", "p_dev.json", "p_test1k.json"],
        {"train": ["p_train"], "validation": ["p_dev"], "test": ["p_test1k"]},
        [],
    ),
]


@pytest.mark.parametrize(("files", "splits", "unread"), NAMED)
def test_files_go_to_the_split_of_their_name_and_the_others_are_told(files, splits, unread, tmp_path, capsys):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('[{"problem": "1 + 1?", "answer": 2}]')
    found = {split: open_tables(f"{tmp_path}@{split}") for split in splits_in(tmp_path)}
    assert {split: [table.label for table in tables] for split, tables in found.items()} == splits
    said = [f"{tmp_path}: not read: {', '.join(unread)}. Where they are wanted, name them as files"]
    assert capsys.readouterr().err.splitlines() == said * bool(unread)
    for tables in found.values():
        assert list(tables[0].notes) == said * bool(unread)


def test_a_file_of_a_folder_that_is_no_table_is_left_out_and_told(tmp_path, capsys):
    (tmp_path / "problems.json").write_text('[{"q": "1 + 1?", "a": 2}, {"q": "1 + 2?", "a": 3}]')
    (tmp_path / "splits.json").write_text('{"first": ["1"], "second": ["1", "2"]}')
    (tmp_path / "info.json").write_text('{"version": 1, "license": "none"}')
    (tmp_path / "sheet.xlsx").write_bytes(b"PK")
    (table,) = open_tables(str(tmp_path))
    said = capsys.readouterr().err.splitlines()
    assert (table.label, list(table.notes)) == ("problems", said)
    assert [line.count("not read") for line in said] == [1, 1, 1]
    assert "splits.json: its lists" in said[0]
    assert "info.json: one object" in said[1]
    assert "sheet.xlsx. Where they" in said[2]
    assert said[2].endswith("save a sheet as CSV")
    with pytest.raises(DataError, match="no columns of one table"):
        open_tables(str(tmp_path / "splits.json"))
    with pytest.raises(DataError, match="CSV"):
        open_tables(str(tmp_path / "sheet.xlsx"))
