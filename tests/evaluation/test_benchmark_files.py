"""Public rows to a file of questions: which pictures may be named, what is refused with file and row, what is
kept of the public table."""

import base64
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from benchmark_rows import ROWS, picture

from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.evaluation.benchmarks import BENCHMARKS, _inside, write_benchmark


def written(name: str, rows: list[dict], folder: Path, **options) -> list[dict]:
    """The questions of rows in FOLDER/rows.json, as OUT/NAME.parquet has them."""
    folder.mkdir(exist_ok=True)
    (folder / "rows.json").write_text(json.dumps(rows))
    write_benchmark(name, [str(folder / "rows.json")], folder / "out", **options)
    return pq.read_table(folder / "out" / f"{name}.parquet").to_pylist()


def named(name: object) -> list[dict]:
    """We-Math's rows, whose pictures have a name."""
    return [{**row, "image_path": name} for row in ROWS["wemath"]()]


@pytest.fixture
def places(tmp_path) -> Path:
    """The folder `data`, and beside it what its rows must not name."""
    (tmp_path / "data").mkdir()
    (tmp_path / "outside.png").write_bytes(picture(1))
    np.save(tmp_path / "outside.npy", np.full((8, 8), 7, np.uint8))
    for suffix in ("png", "npy"):
        (tmp_path / f"data/linked.{suffix}").symlink_to(tmp_path / f"outside.{suffix}")
    (tmp_path / "data/alone.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "data/text.png").write_text("root:x:0:0:root")
    (tmp_path / "data/inside.png").write_bytes(picture(2))
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["../outside.png", "{}/outside.png", "file://{}/outside.png", "linked.png", "linked.npy", "alone",
     "../outside.npy", {"bytes": None, "path": "../outside.png"}],
)  # fmt: skip
def test_a_row_names_no_file_outside_of_the_folder(name, places):
    name = name.format(places) if isinstance(name, str) else name
    with pytest.raises(DataError, match=r"rows.json, row 0: the row names the file .*, which is outside of"):
        written("wemath", named(name), places / "data")
    assert not list(places.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text.png", "text.png cannot be decoded"),
        ("../missing.png", "no file '../missing.png'"),
        ("data:image/png;base64," + base64.b64encode(b"root:x:0:0:root").decode(), "of 15 bytes cannot be"),
        (5, "picture .int. cannot be decoded"),
        ({"bytes": None, "path": None}, "image 1 of 1 in 'images' is empty"),
    ],
)
def test_what_is_no_picture_is_refused_before_it_is_written(name, said, places):
    with pytest.raises(DataError, match=f"rows.json, row 0: .*{said}"):
        written("wemath", named(name), places / "data")


def test_names_begin_beside_the_file_or_at_images(places):
    (places / "others").mkdir()
    (places / "others/inside.png").write_bytes(picture(5))
    beside = written("wemath", named("inside.png"), places / "data")
    assert {row["images"][0]["bytes"] for row in beside} == {picture(2)}
    elsewhere = written("wemath", named("inside.png"), places / "data", images=places / "others")
    assert {row["images"][0]["bytes"] for row in elsewhere} == {picture(5)}
    above = written("wemath", named("../outside.png"), places / "data", images=places)
    assert {row["images"][0]["bytes"] for row in above} == {picture(1)}
    with pytest.raises(RowError, match="rows of the hub lie in no folder: give --images"):
        _inside(None)("inside.png")


def test_the_place_in_the_public_table_is_kept(tmp_path):
    rows = [
        {**row, "image": base64.b64encode(row["image"]["bytes"]).decode()} for row in ROWS["logicvista"]()
    ]
    found = written("logicvista", [rows[-1], *rows[:-1]], tmp_path)  # the row without a question comes first
    assert [row["source_row"] for row in found] == [1, 2, 3, 4]
    assert "index" not in found[0]
    found = written(
        "dynamath", [{**row, "index": i + 100} for i, row in enumerate(ROWS["dynamath"]())], tmp_path
    )
    assert [row["index"] for row in found] == [str(i + 100) for i in range(30)]
    (tmp_path / "a.json").write_text(json.dumps(ROWS["dynamath"]()[:3]))
    (tmp_path / "b.json").write_text(json.dumps(ROWS["dynamath"]()[3:6]))
    write_benchmark("dynamath", [str(tmp_path / f"{name}.json") for name in "ab"], tmp_path)
    counted = pq.read_table(tmp_path / "dynamath.parquet").to_pylist()
    assert [row["source_row"] for row in counted] == list(range(6)), "through both files"


def test_sizes_of_units_are_those_of_the_whole_benchmark(tmp_path):
    rows = [{**row, "image": None} for row in ROWS["hallusionbench"]()]
    rows = [
        {**row, "image": base64.b64encode(picture(3)).decode()} if row["visual_input"] != "0" else row
        for row in rows
    ]
    found = written("hallusionbench", rows, tmp_path)
    sizes = ("question_rows_with_picture", "question_rows", "figure_rows")
    assert [[row[size] for size in sizes] for row in found] == [
        ["0", "2", "0"],  # VS without a picture
        ["1", "2", "2"],
        ["1", "1", "2"],
        ["2", "2", "1"],
        ["2", "2", "1"],
    ]


ABOUT = {"task": "t", "skills": ["algebra", "logic"]}


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (ABOUT, "algebra; logic"),
        (json.dumps(ABOUT), "algebra; logic"),
        (str(ABOUT), "algebra; logic"),
        ({"task": "t", "skills": "algebra"}, "algebra"),
        ({"task": "t", "skills": "['algebra', 'logic']"}, "algebra; logic"),
    ],
)
def test_metadata_may_come_as_text(about, said, tmp_path):
    image = base64.b64encode(picture(1)).decode()
    rows = [{**row, "decoded_image": image, "metadata": about} for row in ROWS["mathvista"]()]
    assert {row["skills"] for row in written("mathvista", rows, tmp_path)} == {said}


@pytest.mark.parametrize("name", ["mathvista", "mathverse"])
@pytest.mark.parametrize("about", ["algebra", 5, ["a"], "[1]", "{"])
def test_metadata_of_another_kind_is_refused(name, about, tmp_path):
    rows = [{**row, "image": None, "decoded_image": None, "metadata": about} for row in ROWS[name]()]
    with pytest.raises(DataError, match=r"rows.json, row 0: column 'metadata' is .*, no object with fields"):
        written(name, rows, tmp_path)


NO_TEXTS = [
    None,
    "",
    1.5,
    float("nan"),
    float("inf"),
    10**400,
    10**5000,
    True,
    [],
    [None],
    [["a"]],
    {},
    {"a": 1},
    b"x",
]
NO_TEXTS += [
    "[",
    "{",
    "NaN",
    "inf",
    ["x"] * 30,
    {"label": ["A"], "text": ["x"]},
    "\ud800",
    datetime(2020, 1, 1),
]


@pytest.mark.parametrize("name", ROWS)
def test_whatever_a_column_holds_is_read_or_refused(name):
    """By ValueError, to which the file and the row are added; no other error leaves a reader."""
    refused = 0
    for row in ROWS[name]()[:8]:
        about = row.get("metadata", {})
        others = [{**row, column: value} for column in row for value in NO_TEXTS]
        others += [{**row, "metadata": {**about, field: value}} for field in about for value in NO_TEXTS]
        for other in others:
            try:
                BENCHMARKS[name].read(other)
            except ValueError:
                refused += 1
    assert refused > 20


def test_numbers_as_pandas_writes_them():
    """1.0 for 1, in a table as text."""
    variant = BENCHMARKS["dynamath"].read(ROWS["dynamath"]()[0] | {"qid": "7.0", "varid": 3.0})
    rounded = BENCHMARKS["mathvista"].read(ROWS["mathvista"]()[2] | {"precision": "1.0"})
    assert variant is not None
    assert rounded is not None
    assert (variant.id, rounded.answer) == ("7/3", '{"gold": "1.2", "type": "rounded"}')


@pytest.mark.parametrize(("name", "row"), [("dynamath", 0), ("mathvista", 2)])
@pytest.mark.parametrize("gold", ["nan", "inf", "-Infinity", float("inf")])
def test_a_float_is_finite(name, row, gold):
    with pytest.raises(RowError, match="is no number, though its type is float"):
        BENCHMARKS[name].read({**ROWS[name]()[row], "answer": gold})
