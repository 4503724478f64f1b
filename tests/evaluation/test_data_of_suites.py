"""Which file each protocol of a suite asks: its own in --data FOLDER, or nothing is asked at all."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_rows import ROWS

from gmpo_vl.evaluation.benchmarks import write_benchmark
from gmpo_vl.evaluation.protocol_files import check_suite, source_in_suite, source_of
from gmpo_vl.evaluation.protocols import load_protocol
from gmpo_vl.runs import EvaluationFolder

SMALL = ("--max-tokens", 2, "--min-pixels", 784, "--limit", 2, "--n", 1, "--temperature", 0)


@pytest.fixture
def vision(tmp_path, monkeypatch) -> Path:
    """FOLDER as `data_prep/vision_benchmarks.py` leaves it after two benchmarks; no data beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("chartqa", "geoqa"):
        pq.write_table(pa.Table.from_pylist(ROWS[name]()), tmp_path / f"{name}_rows.parquet")
        write_benchmark(name, [str(tmp_path / f"{name}_rows.parquet")], tmp_path / "vision")
    return tmp_path / "vision"


def test_a_suite_names_every_missing_file_before_the_first_question(vision, tiny, gmpo_vl, tmp_path):
    error = gmpo_vl("eval", tiny, "--protocol", "geometry", "--data", vision, "--out", tmp_path, code=2)
    assert f"{vision}/geometry3k_choices.parquet: not here" in error
    assert f"`python data_prep/vision_benchmarks.py NAME SOURCE {vision}` writes it" in error
    with pytest.raises(FileNotFoundError) as all_of_them:
        check_suite("all_vision", str(vision))
    said = str(all_of_them.value)
    assert said.count(".parquet") == 9
    assert not any(f"/{name}.parquet" in said for name in ("geometry3k", "geoqa", "chartqa"))
    with pytest.raises(FileNotFoundError, match=r"data/vision/geoqa.parquet: not here.*writes them; --data"):
        check_suite("geometry", None)
    for data in ("vision/geoqa.parquet", "hiyouga/geometry3k@test", "no_such_folder"):
        with pytest.raises(FileNotFoundError, match=f"--data {data} is no folder: each protocol of geometry"):
            check_suite("geometry", data)


def test_each_protocol_of_a_suite_asks_its_own_file(vision, tiny, diagrams, gmpo_vl, tmp_path):
    shutil.copy(vision / "geoqa.parquet", vision / "geometry3k_choices.parquet")
    shutil.copy(diagrams, vision / "geometry3k.parquet")
    gmpo_vl("eval", tiny, "--protocol", "geometry", "--data", vision, *SMALL, "--out", tmp_path / "out")
    asked = {
        path.parent.name.partition("+")[0]: EvaluationFolder(path.parent).results()["data"]["source"]
        for path in (tmp_path / "out").glob("*/results.json")
    }
    names = ("geometry3k", "geometry3k_choices", "geoqa")
    assert asked == {name: str(vision / f"{name}.parquet") for name in names}


def test_data_of_the_hub_stays_in_a_suite_unless_its_file_is_there(vision):
    usual = load_protocol("geometry3k").data
    assert usual == "hiyouga/geometry3k@test"
    assert source_in_suite(str(vision), usual) is None
    shutil.copy(vision / "geoqa.parquet", vision / "geometry3k.parquet")
    assert source_in_suite(str(vision), usual) == str(vision / "geometry3k.parquet")


@pytest.mark.parametrize("name", ["geometry3k", "geometry3k_choices", "mathvista", "math500", "gridworld"])
def test_a_folder_of_other_benchmarks_is_no_data_of_one(name, vision):
    usual = load_protocol(name).data
    with pytest.raises(FileNotFoundError, match=r"no \w+.parquet there; it holds chartqa.parquet, geo"):
        source_of("vision", usual)
    with pytest.raises(FileNotFoundError, match="which other protocols ask"):
        source_of(".", usual)  # a folder above it is read with what lies below


def test_a_folder_or_file_of_one_s_own_stands_in_for_a_protocol_s_data(vision, tmp_path):
    usual = "data/vision/geoqa.parquet"
    assert source_of("vision", usual) == "vision/geoqa.parquet"
    assert source_of("vision/chartqa.parquet", usual) == "vision/chartqa.parquet", "a file that was named"
    assert source_of("owner/mine@test", usual) == "owner/mine@test"
    (tmp_path / "mine").mkdir()
    for file in ("train.parquet", "test.parquet", "questions.jsonl", "geoqa.jsonl"):
        shutil.copy(vision / "geoqa.parquet", tmp_path / "mine" / file)
    assert source_of("mine", usual) == "mine"
