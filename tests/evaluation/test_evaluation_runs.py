"""Evaluations by protocol through the command line: killed, resumed, sharded, and refused in time."""

import json
import os
import runpy
import shutil
import socket
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from interruptions import Interrupted, dies_after_one_chunk, interrupt_after

from gmpo_vl.evaluation import answering, sharing
from gmpo_vl.evaluation.protocols import load_protocol, override, protocol_names
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.storage.locks import IN_USE, locked

ROOT = Path(__file__).parents[2]


def test_a_killed_worker_costs_its_unfinished_chunk_only_and_the_same_command_goes_on(
    small_eval, whole, tmp_path, gmpo_vl, monkeypatch, content
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = [*small_eval, "--out", tmp_path]
    chunks = tmp_path / "small+data=test" / "chunks"
    with monkeypatch.context() as patched:
        patched.setattr(sharing, "answer_shard", dies_after_one_chunk)
        assert "1 of 2 workers failed" in gmpo_vl(*arguments, "--workers", 2, code=1)
    (chunks.parent / "images" / "ab.webp.1_2.partial").write_bytes(b"")  # what a kill may leave
    kept = {path: path.stat().st_mtime_ns for path in chunks.glob("*.jsonl")}
    assert 1 <= len(kept) <= 4, "of the 7, and the other worker's 3 at most"
    seen = {}

    def look(folder):
        seen.update({path: path.stat().st_mtime_ns for path in chunks.glob("*.jsonl")})
        shutil.rmtree(chunks)

    monkeypatch.setattr(EvaluationFolder, "remove_chunks", look)
    gmpo_vl(*arguments)
    assert len(seen) == 7
    assert {path: seen[path] for path in kept} == kept
    assert content(tmp_path / "small+data=test") == content(whole)


def test_workers_find_what_is_named_from_the_working_directory(
    small_eval, whole, tmp_path, gmpo_vl, monkeypatch, content
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    relative = [os.path.relpath(a, tmp_path) if isinstance(a, Path) else a for a in small_eval]
    assert relative != small_eval
    gmpo_vl(*relative, "--out", "out", "--workers", 2)
    found = content(tmp_path / "out" / "small+data=test")
    apart = [name for name, said in content(whole).items() if found[name] != said]
    assert sorted(apart) == ["plan.json", "results.json"], "they name the paths"


def test_two_shards_merged_equal_the_whole_run_in_one_folder_or_two(
    small_eval, whole, tmp_path, gmpo_vl, content
):
    name = "small+data=test"
    gmpo_vl(*small_eval, "--out", tmp_path / "here", "--shard", "1/2")
    assert "3 of 7 chunks are missing" in gmpo_vl("eval", "merge", tmp_path / "here" / name, code=2)
    gmpo_vl(*small_eval, "--out", tmp_path / "there", "--shard", "2/2")
    gmpo_vl("eval", "merge", tmp_path / "here" / name, tmp_path / "there" / name)
    assert content(tmp_path / "here" / name) == content(whole)


def test_results_state_what_they_depend_on(whole):
    results = json.loads((whole / "results.json").read_text())
    assert results["questions"] == 14
    assert results["settings"]["temperature"] == 0.5
    assert results["settings"]["seed"] == 1
    assert len(results["model"]["sha256"]) == len(results["data"]["sha256"]) == 64
    assert results["data"]["pinned"] is None
    assert results["backend"]["dtype"] == "float32"
    assert {"torch", "transformers", "gmpo-vl"} <= set(results["versions"])
    assert results["graders"].keys() == {"strict", "paper"}
    samples = [json.loads(line) for line in (whole / "samples.jsonl").open()]
    assert [s["k"] for s in samples] == [0, 1, 2] * 14
    assert len({s["seed"] for s in samples}) == len(samples)


def test_other_data_is_graded_strictly_unless_a_grader_is_named(
    tiny, diagrams, small_protocol, tmp_path, gmpo_vl
):
    arguments = ["eval", tiny, "--data", diagrams, "--limit", 1, "--n", 1, "--out", tmp_path]
    gmpo_vl(*arguments, "--protocol", small_protocol)
    name = "small+n=1,limit=1,grader=strict,data=test"
    results = json.loads((tmp_path / name / "results.json").read_text())
    assert (results["name"], results["settings"]["grader"]) == (name, "strict")
    gmpo_vl(*arguments, "--protocol", small_protocol, "--grader", "paper")
    assert (tmp_path / "small+n=1,limit=1,data=test").is_dir()
    own = tmp_path / "own.yaml"
    own.write_text(small_protocol.read_text().replace("data: hiyouga/geometry3k@test", f"data: {diagrams}"))
    gmpo_vl(*arguments, "--protocol", own)
    results = json.loads((tmp_path / "own+n=1,limit=1/results.json").read_text())
    assert results["settings"]["grader"] == "paper", "the protocol's own data"


def test_a_finished_evaluation_is_not_run_again(small_eval, whole, gmpo_vl, monkeypatch, content):
    interrupt_after(monkeypatch, 0)
    before = content(whole)
    gmpo_vl(*small_eval, "--out", whole.parent)
    assert content(whole) == before


def test_another_model_in_the_same_folder_is_refused(small_eval, whole, gmpo_vl, tmp_path, monkeypatch):
    from gmpo_vl.models.tiny import save_tiny

    interrupt_after(monkeypatch, 0)
    other = save_tiny(tmp_path / "other", seed=1)
    error = gmpo_vl("eval", other, *small_eval[2:], "--out", whole.parent, code=2)
    assert "model.sha256" in error


def test_geometry3k_rows_in_two_shards_one_of_them_interrupted(
    tiny, data_dir, tmp_path, gmpo_vl, monkeypatch, content
):
    """50 real rows through the geometry3k protocol, with short answers."""
    file = tmp_path / "rows.parquet"
    pq.write_table(pq.read_table(data_dir / "geometry3k/test.parquet").slice(0, 50), file)
    arguments = ["eval", tiny, "--protocol", "geometry3k", "--data", file, "--max-tokens", 4, "--n", 2]
    name = "geometry3k+n=2,max_tokens=4,grader=strict,data=rows"
    gmpo_vl(*arguments, "--out", tmp_path / "whole")
    shards = [*arguments, "--out", tmp_path / "shards", "--shard"]
    with monkeypatch.context() as patched:
        interrupt_after(patched, 1)
        with pytest.raises(Interrupted):
            gmpo_vl(*shards, "1/2")
    assert len(list((tmp_path / "shards" / name / "chunks").glob("*.jsonl"))) == 1
    for shard in ("2/2", "1/2"):
        gmpo_vl(*shards, shard)
    gmpo_vl("eval", "merge", tmp_path / "shards" / name)
    expected = content(tmp_path / "whole" / name)
    assert len(expected) > 50
    assert content(tmp_path / "shards" / name) == expected


def test_the_five_text_sets_interrupted(tiny_text, text_files, tmp_path, gmpo_vl, monkeypatch, content):
    arguments = [
        "eval",
        tiny_text,
        "--protocol",
        "text",
        "--data",
        text_files,
        "--limit",
        2,
        "--max-tokens",
        8,
    ]
    said = gmpo_vl(*arguments, "--out", tmp_path / "whole")
    assert "unweighted mean of 5 sets" in said
    assert "note: the data" not in said, "the prepared files are not the pinned ones"
    with monkeypatch.context() as patched:
        interrupt_after(patched, 3)
        with pytest.raises(Interrupted):
            gmpo_vl(*arguments, "--out", tmp_path / "killed")
    gmpo_vl(*arguments, "--out", tmp_path / "killed")
    for name in ("aime24", "amc", "math500", "minerva", "olympiad_bench"):
        folder = f"{name}+max_tokens=8,limit=2"
        assert content(tmp_path / "killed" / folder) == content(tmp_path / "whole" / folder)


def test_a_text_set_in_two_shards(tiny_text, text_files, tmp_path, gmpo_vl, content):
    """AMC's 83 questions are two chunks."""
    arguments = ["eval", tiny_text, "--protocol", "amc", "--data", text_files, "--max-tokens", 2]
    gmpo_vl(*arguments, "--out", tmp_path / "whole")
    for shard in ("2/2", "1/2"):
        gmpo_vl(*arguments, "--out", tmp_path / "shards", "--shard", shard)
    gmpo_vl("eval", "merge", tmp_path / "shards" / "amc+max_tokens=2")
    assert content(tmp_path / "shards") == content(tmp_path / "whole")


@pytest.fixture(scope="module")
def text_files(data_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("text")
    script = runpy.run_path(str(ROOT / "data_prep/text_benchmarks.py"))
    script["main"]([str(data_dir / "math_eval/evaluation_suite"), str(out)])
    return out


def test_what_cannot_be_evaluated_is_said_before_anything_is_generated(
    tiny, tiny_text, diagrams, small_protocol, tmp_path, gmpo_vl, monkeypatch
):
    interrupt_after(monkeypatch, 0)
    table = pq.read_table(diagrams)
    files = {name: tmp_path / f"{name}.parquet" for name in ("renamed", "empty", "missing")}
    pq.write_table(table.rename_columns(["images", "question", "answer", "id", "family"]), files["renamed"])
    pq.write_table(table.slice(0, 0), files["empty"])
    rows = [{**row, "images": [str(tmp_path / "gone.png")]} for row in table.slice(0, 2).to_pylist()]
    (tmp_path / "missing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def refused(*arguments) -> str:
        start = ["eval", *arguments, "--protocol", small_protocol, "--out", tmp_path / "out"]
        return gmpo_vl(*start, code=2)

    said = refused(tiny, "--data", files["renamed"])
    assert "no column 'problem'" in said
    assert "--prompt-key" in said
    assert "no usable row" in refused(tiny, "--data", files["empty"])
    said = refused(tiny, "--data", tmp_path / "missing.jsonl")
    assert "gone.png" in said
    assert "row 0" in said
    assert "takes text alone" in refused(tiny_text, "--data", diagrams)
    assert "n is 0" in refused(tiny, "--data", diagrams, "--n", "0")
    assert "limit is 0" in refused(tiny, "--data", diagrams, "--limit", "0")
    assert "no protocol 'geometri3k'" in gmpo_vl("eval", tiny, "--protocol", "geometri3k", code=2)
    assert "prompt_too_long" in refused(tiny, "--data", diagrams, "--max-prompt-tokens", "20")
    assert not (tmp_path / "out").exists()


def test_areas_that_exclude_each_other_are_told_with_whose_they_are():
    protocol = load_protocol("geometry3k")
    with pytest.raises(ValueError, match=r"the protocol's min_pixels is .*, --max-pixels is 3,136"):
        override(protocol, {"max_pixels": 3136})
    with pytest.raises(ValueError, match="--min-pixels is 3,137, --max-pixels is 3,136"):
        override(protocol, {"min_pixels": 3137, "max_pixels": 3136})


def test_a_changed_field_renames_the_result_and_the_same_value_does_not():
    protocol = load_protocol("geometry3k")
    assert override(protocol, {"n": 16, "temperature": 0.5}) == protocol
    assert override(protocol, {"n": 4, "temperature": 1.0}).name == "geometry3k+n=4,temperature=1"
    twice = override(override(protocol, {"n": 4}), {"format_prompt": "a/b c.jinja"})
    assert twice.name == "geometry3k+n=4,format_prompt=a-b-c.jinja"


def test_every_shipped_protocol_loads_and_the_text_ones_are_pinned_and_greedy():
    protocols = {name: load_protocol(name) for name in protocol_names()}
    assert {"geometry3k", "easyr1_val", "avg16"} <= protocols.keys()
    for name in ("aime24", "amc", "math500", "minerva", "olympiad_bench"):
        p = protocols[name]
        assert (p.n, p.temperature, p.max_tokens, p.max_model_len, p.grader) == (1, 0.0, 3000, 4096, "paper")
        assert p.data_sha256 is not None
    assert (protocols["avg16"].temperature, protocols["avg16"].top_p, protocols["avg16"].n) == (0.6, 0.95, 16)


def test_a_protocol_file_with_a_wrong_field_is_refused(small_protocol, tmp_path):
    text = small_protocol.read_text()
    for old, new, said in (
        ("n: 3", "samples: 3", "unknown fields samples"),
        ("data: hiyouga/geometry3k@test", "", "the field data must stand there"),
        ("seed: 1", "sede: 1", "unknown fields sede; did you mean seed"),
        ("n: 3", "n: three", "n is 'three', but must be a whole number"),
        ("grader: paper", "grader: stric", "did you mean strict"),
        ("grader: paper", "grader: strict\ngrader_options: {tolerance: 1}", "grader_options are a reward's"),
        ("n: 3", "n: 3\nlimit: 0", "limit is 0"),
        ("temperature: 0.5", "temperature: 0.0", "greedy"),
    ):
        path = tmp_path / "wrong.yaml"
        path.write_text(text.replace(f"\n{old}\n", f"\n{new}\n", 1))
        with pytest.raises(ValueError, match=said):
            load_protocol(str(path))


@pytest.mark.parametrize("name", ["..yaml", "...yaml", "a\nb.yaml"])
def test_a_protocol_file_after_which_no_folder_can_be_called_is_refused(name, small_protocol, tmp_path):
    path = tmp_path / name
    path.write_text(small_protocol.read_text())
    with pytest.raises(ValueError, match="results' folder is called after its file"):
        load_protocol(str(path))


# --- two processes at once ---
@pytest.mark.parametrize("shared", [False, True], ids=["a whole evaluation", "a shard"])
def test_who_finishes_an_evaluation_is_alone_in_its_folder(
    small_eval, whole, gmpo_vl, tmp_path, content, shared
):
    folder = Path(shutil.copytree(whole, tmp_path / "out" / whole.name))
    again = [*small_eval, "--out", folder.parent]
    with locked(folder, shared=shared):
        for command in (
            again,
            [*again, "--workers", 2],
            ["eval", "merge", folder],
            ["eval", "regrade", folder],
            ["eval", "page", folder],
        ):
            said = gmpo_vl(*command, code=IN_USE)
            assert f"{folder} is in use by process" in said
            assert f"process {os.getpid()} on {socket.gethostname()} since 2" in said
            assert "--out is free" in said
        assert gmpo_vl(*again, "--shard", "1/2", code=0 if shared else IN_USE)
        gmpo_vl("eval", "compare", "--a", folder, "--b", whole)
    gmpo_vl("eval", "regrade", folder)
    assert content(folder) == content(whole)


FILES = ("plan.json", "samples.jsonl", "results.json", "timing.json", "chunks/000003.jsonl", "lock")
STANDING = dict.fromkeys(FILES, True) | dict.fromkeys(("chunks", "images", ""), False)


@pytest.mark.parametrize("name", STANDING)
def test_what_stands_in_a_file_s_place_is_said_before_anything_is_answered(
    small_eval, whole, gmpo_vl, tmp_path, monkeypatch, name
):
    monkeypatch.setattr(answering, "load_backend", None)
    path = tmp_path / whole.name / name
    if STANDING[name]:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    said = gmpo_vl(*small_eval, "--out", tmp_path, code=2)
    there, needed = ("folder", "file") if STANDING[name] else ("file", "folder")
    assert f"{path}: a {there} stands where a {needed} is needed" in said
    assert "move it away" in said
