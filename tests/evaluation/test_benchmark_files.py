"""Public rows to a file of questions: which pictures may be named, what is refused with file and row, what is
kept of the public table."""

import base64
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from benchmark_rows import ROWS, picture

from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.evaluation.benchmarks import _inside, write_benchmark


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
