"""The InterGPS release, rebuilt from ten raw records, converts to the columns of the public set."""

import importlib.util
import json
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

SCRIPT = Path(__file__).parents[2] / "data_prep" / "geometry3k.py"


@pytest.fixture(scope="module")
def geometry3k():
    spec = importlib.util.spec_from_file_location("data_prep_geometry3k", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def records(data_dir) -> list[dict]:
    path = data_dir / "geometry3k" / "original_diagram_10.parquet"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return pq.read_table(path).to_pylist()


def files_of(record: dict, number: int) -> dict[str, bytes]:
    """The release's files of one problem, as far as the conversion reads them."""
    data = {
        "problem_text": record["problem_text"],
        "annotat_text": record["problem"].removeprefix("<image>"),
        "choices": record["choices"],
        "answer": record["answer_letter"],
        "id": number,
    }
    return {
        f"{number}/data.json": json.dumps(data).encode(),
        f"{number}/img_diagram.png": record["images"][0]["bytes"],
        f"{number}/img_diagram_point.png": b"the other picture",
        f"{number}/logic_form.json": b"{}",
    }


@pytest.fixture(params=["folders", "zips", "zips without a top folder"])
def release(request, records, tmp_path) -> Path:
    for split, part in (("train", records[:6]), ("val", records[6:8]), ("test", records[8:])):
        files: dict[str, bytes] = {".DS_Store": b"x", "../__MACOSX/._x": b"x"}
        for record in reversed(part):  # listing order must not matter
            files |= files_of(record, record["id"])
        if request.param == "folders":
            for name, content in files.items():
                path = tmp_path / split / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        else:
            top = "" if "without" in request.param else f"{split}/"
            with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as archive:
                for name, content in files.items():
                    archive.writestr(name.removeprefix("../") if ".." in name else top + name, content)
    return tmp_path


def test_the_release_becomes_the_public_columns(geometry3k, release, records, tmp_path, capsys):
    geometry3k.main([str(release), str(tmp_path / "out")])
    assert capsys.readouterr().out.count("problems") == 3
    written = []
    for name, count in (("train", 6), ("validation", 2), ("test", 2)):
        table = pq.read_table(tmp_path / "out" / f"{name}.parquet")
        assert table.num_rows == count
        assert table.column_names == ["images", "problem", "answer", "id"]
        written += table.to_pylist()
    assert [row["id"] for row in written] == [record["id"] for record in records]
    for row, record in zip(written, records, strict=True):
        assert row["problem"] == record["problem"]
        assert row["answer"] == record["answer"]
        assert [image["bytes"] for image in row["images"]] == [image["bytes"] for image in record["images"]]


def test_the_files_load_as_examples_and_decode_in_datasets(geometry3k, release, tmp_path):
    from datasets import load_dataset

    from gmpo_vl.data.examples import load_examples

    geometry3k.main([str(release), str(tmp_path / "out")])
    examples = load_examples(f"{tmp_path / 'out'}@train", check_images=True)
    assert len(examples) == 6
    path = str(tmp_path / "out" / "train.parquet")
    row = load_dataset("parquet", data_files=[path], split="train", cache_dir=str(tmp_path / "cache"))[0]
    assert row["images"][0].size[0] > 10  # a PIL picture, as EasyR1 gets it


def break_(release: Path, number: int, name: str, content: bytes) -> None:
    (release / "train" / str(number) / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data.json", b"{", "JSONDecodeError"),
        ("data.json", b'{"annotat_text": "x", "choices": ["1", "2"], "answer": "D"}', "IndexError"),
        ("data.json", b'{"annotat_text": "x", "choices": ["1", "2", "3", "4"], "answer": ""}', "ValueError"),
        ("data.json", b'{"choices": ["1"], "answer": "A"}', "annotat_text"),
    ],
)
def test_a_broken_record_is_named(geometry3k, records, tmp_path, capsys, name, content, said):
    for split in ("train", "val", "test"):
        for file, data in files_of(records[0], 11).items():
            (tmp_path / split / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / split / file).write_bytes(data)
    break_(tmp_path, 11, name, content)
    with pytest.raises(SystemExit) as stopped:
        geometry3k.main([str(tmp_path), str(tmp_path / "out")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert str(Path("train") / "11") in error
    assert said in error
    assert not list((tmp_path / "out").iterdir())  # no half-written file is left


def test_what_is_missing_is_said(geometry3k, tmp_path, capsys):
    (tmp_path / "train.zip").write_bytes(b"PK no zip")
    with pytest.raises(SystemExit):
        geometry3k.main([str(tmp_path), str(tmp_path / "out")])
    assert "train.zip: not a complete zip file" in capsys.readouterr().err
    (tmp_path / "train.zip").unlink()
    with pytest.raises(SystemExit):
        geometry3k.main([str(tmp_path), str(tmp_path / "out")])
    assert "neither a folder train/ nor a file train.zip" in capsys.readouterr().err
