"""What changed around a run that goes on: its settings' file, its data, lines of its curve."""

import io
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import transformers
from PIL import Image

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.engines.fingerprint import fingerprint_of
from gmpo_vl.engines.opening import keep_config
from gmpo_vl.runs import Run

SETTINGS = ["trainer.val_freq=-1", "trainer.val_before_train=false", "trainer.save_freq=1"]
STEPS = 3  # with a checkpoint each


# --- the former settings ---
def test_a_reward_s_file_that_moved_and_a_key_that_is_no_more_do_not_block(run, go_on):
    path = run.folder / "config.yaml"
    text = path.read_text()
    old = next(line for line in text.splitlines() if "reward_function:" in line)
    path.write_text(
        text.replace(old, "    reward_function: /gone/reward.py:compute_score").replace(
            "data:\n", "data:\n  was_once_here: 3\n", 1
        )
    )
    code, said = go_on()
    assert code == 0
    assert "going on with other settings than before: " in said
    for name in (
        "worker.reward.reward_function",
        "trainer.max_steps",
        "data.was_once_here (no longer a setting)",
    ):
        assert name in said
    assert "was_once_here" in (run.folder / "config.until_step_000003.yaml").read_text()
    assert "was_once_here" not in path.read_text()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"data: [1",
        b"- a\nwritten: []\n",
        b"\xff\xfe\nwritten:",
        b"\0\0\0",
        b"data: {a: ${b}}\nwritten: []\n",
        None,
    ],
)
def test_a_config_that_cannot_be_read_does_not_block(make_config, tmp_path, capsys, damage):
    run, config = Run(tmp_path / "run").create(), make_config()
    keep_config(config, run)
    run.checkpoint(1).mkdir()
    path = run.folder / "config.yaml"
    whole = path.read_bytes()
    damaged = whole[: len(whole) // 2] if damage is None else damage
    path.write_bytes(damaged)
    keep_config(config, run)
    assert "the settings until now cannot be compared, they are kept as config.until_step_000001.yaml" in (
        capsys.readouterr().out
    )
    assert path.read_bytes() == whole
    assert (run.folder / "config.until_step_000001.yaml").read_bytes() == damaged


def test_settings_that_a_checkpoint_was_written_under_are_not_lost_by_a_second_change(
    make_config, tmp_path, capsys
):
    run = Run(tmp_path / "run").create()
    run.checkpoint(1).mkdir()
    for lr in (1e-3, 2e-3, 3e-3):  # no checkpoint between
        keep_config(make_config(f"worker.actor.optim.lr={lr}"), run)
    assert capsys.readouterr().out.count("worker.actor.optim.lr") == 2
    assert "lr: 0.001" in (run.folder / "config.until_step_000001.yaml").read_text()
    keep_config(make_config("worker.actor.optim.lr=3e-3"), run)
    assert capsys.readouterr().out == ""


def test_a_run_that_died_before_its_first_checkpoint_begins_again_without_a_word(
    make_config, tmp_path, capsys
):
    run = Run(tmp_path / "run").create()
    for lr in (1e-3, 2e-3):
        keep_config(make_config(f"worker.actor.optim.lr={lr}"), run)
    assert capsys.readouterr().out == ""
    assert [path.name for path in run.folder.glob("config*")] == ["config.yaml"]
    assert "lr: 0.002" in (run.folder / "config.yaml").read_text()


# --- the pictures ---
def rows_of(diagrams: Path) -> list[dict]:
    rows = pq.read_table(
        diagrams / "train.parquet", columns=["images", "problem", "answer", "id"]
    ).to_pylist()
    return [{**row, "images": [image["bytes"] for image in row["images"]]} for row in rows]


def recoloured(content: bytes) -> bytes:
    """The same size and mode, one pixel of another grey."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()
    image.putpixel((0, 0), (1, 2, 3))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_changed_picture_is_refused_as_a_changed_answer_is(run, go_on, diagrams, tmp_path):
    rows = rows_of(diagrams)
    same = tmp_path / "same.parquet"
    write_parquet(same, rows, {"id": "string"})
    assert go_on("trainer.max_steps=3", f"data.train_files={same}")[0] == 0
    rows[7]["images"] = [recoloured(rows[7]["images"][0])]
    write_parquet(tmp_path / "other.parquet", rows, {"id": "string"})
    code, said = go_on(f"data.train_files={tmp_path / 'other.parquet'}")
    assert code == 2
    assert "was trained on other data: the pictures of data.train_files changed since" in said
    rows[7]["answer"] = "17"
    write_parquet(tmp_path / "both.parquet", rows, {"id": "string"})
    code, said = go_on(f"data.train_files={tmp_path / 'both.parquet'}")
    assert code == 2
    assert "the rows of data.train_files changed since" in said


@pytest.fixture
def in_files(diagrams, tmp_path) -> Path:
    """The same rows with their pictures in files of their own."""
    (tmp_path / "pictures").mkdir()
    with (tmp_path / "rows.jsonl").open("w") as file:
        for k, row in enumerate(rows_of(diagrams)):
            path = tmp_path / "pictures" / f"{k}.png"
            path.write_bytes(row["images"][0])
            file.write(json.dumps({**row, "images": [str(path)]}) + "\n")
    return tmp_path / "rows.jsonl"


def test_a_picture_is_the_same_wherever_it_lies_and_its_file_is_read_once(
    in_files, diagrams, tmp_path, monkeypatch
):
    from gmpo_vl.engines import fingerprint

    read: list[Path] = []
    measured = fingerprint.measured
    monkeypatch.setattr(fingerprint, "measured", lambda path: read.append(path) or measured(path))
    cache, examples = tmp_path / "cache.json", load_examples(str(in_files))
    first = fingerprint_of(examples, cache)
    embedded = fingerprint_of(load_examples(str(diagrams / "train.parquet")), tmp_path / "none.json")
    assert first.pictures == embedded.pictures
    assert not (tmp_path / "none.json").exists()
    assert len(read) == len(examples)
    assert fingerprint_of(examples, cache) == first
    assert len(read) == len(examples)
    for damaged in ("", "[]", '{"a": 1}', "{"):
        cache.write_text(damaged)
        assert fingerprint_of(examples, cache) == first


def test_no_flipped_byte_of_the_cache_is_believed(in_files, tmp_path):
    cache, examples = tmp_path / "cache.json", load_examples(str(in_files))
    first = fingerprint_of(examples, cache)
    whole = cache.read_bytes()
    for at in range(0, len(whole), len(whole) // 50):
        cache.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert fingerprint_of(examples, cache) == first, f"byte {at}"
    kept = json.loads(whole)
    for changed in (
        kept["files"],  # as an earlier version wrote it
        {**kept, "files": {path: ["0" * 64, *of[1:]] for path, of in kept["files"].items()}},
        {**kept, "files": {path: of[:3] for path, of in kept["files"].items()}},
        {**kept, "files": [1]},
        {**kept, "sha256": None},
    ):
        cache.write_text(json.dumps(changed))
        assert fingerprint_of(examples, cache) == first
        assert cache.read_bytes() == whole


def test_a_picture_s_file_that_changed_is_noticed_though_size_and_time_were_put_back(in_files, tmp_path):
    cache, examples = tmp_path / "cache.json", load_examples(str(in_files))
    first = fingerprint_of(examples, cache)
    path = tmp_path / "pictures" / "3.png"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    changed = fingerprint_of(examples, cache)
    assert changed.pictures != first.pictures
    assert changed.texts == first.texts


def test_pictures_that_changed_places_are_other_data(in_files, tmp_path):
    cache, examples = tmp_path / "cache.json", load_examples(str(in_files))
    first = fingerprint_of(examples, cache)
    a, b = (tmp_path / "pictures" / name for name in ("1.png", "2.png"))
    one, two = a.read_bytes(), b.read_bytes()
    assert one != two
    a.write_bytes(two)
    b.write_bytes(one)
    assert fingerprint_of(examples, cache).pictures != first.pictures


# --- the curve ---
@pytest.mark.parametrize(
    ("line", "said_of"),
    [
        ("junk", "not JSON"),
        ('{"reward/overall": 1.0}', "no step"),
        ('{"step": "2"}', "step is '2'"),
        ('{"step": true}', "step is True"),
        ("[2]", "not a JSON object"),
    ],
)
def test_a_line_that_is_none_is_named_before_anything_is_loaded(run, go_on, line, said_of):
    lines = run.metrics_file.read_text().splitlines()
    run.metrics_file.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    code, said = go_on()
    assert code == 2
    assert f"{run.metrics_file}, line 2: {said_of}" in said
    assert "Mend the line, or delete it" in said
    assert "Loading weights" not in said


def test_a_hole_in_the_curve_is_said(run, go_on):
    lines = run.metrics_file.read_text().splitlines(keepends=True)
    run.metrics_file.write_text("".join([lines[0], lines[2]]))
    code, said = go_on()
    assert code == 0
    assert f"WARNING: {run.metrics_file} has no line of step 2: the curve has a hole there" in said


def test_a_torn_line_is_not_glued_to_what_a_resume_discards(run, go_on):
    lines = run.metrics_file.read_text().splitlines(keepends=True)
    shutil.rmtree(run.checkpoint(3))
    discarded = run.folder / "metrics.discarded.jsonl"
    discarded.write_text('{"step": 9, "reward/ov')
    code, _ = go_on()
    assert code == 0
    assert discarded.read_text() == lines[2]


# --- nothing to go on from ---
def test_a_run_that_was_stopped_before_its_first_checkpoint_says_that_it_starts_again(run, go_on):
    shutil.rmtree(run.checkpoints)
    code, said = go_on()
    assert code == 0
    assert f"no checkpoint of {run.folder} to go on from: it starts at step 1 again" in said
    assert f"the lines of {STEPS} steps go to metrics.discarded.jsonl" in said
    assert (run.folder / "metrics.discarded.jsonl").exists()


# --- another version of transformers ---
@pytest.mark.parametrize("before", ["4.1.0", None])
def test_parameters_that_another_version_names_otherwise_are_told_as_that(before, run, go_on):
    """Written as that version would: under other names, without or with the version."""
    path = max(run.checkpoints.iterdir()) / "trainer" / "optimizer.pt"
    state = torch.load(path, weights_only=True)
    assert state["transformers"] == transformers.__version__
    state["trained"] = {f"model.{name}": shape for name, shape in state["trained"].items()}
    state = (
        {**state, "transformers": before} if before else {k: state[k] for k in state if k != "transformers"}
    )
    torch.save(state, path)
    (path.parents[1] / "manifest.json").unlink()
    of_run = torch.load(path.with_name("state.pt"), weights_only=True)
    torch.save({**of_run, "manifest": False}, path.with_name("state.pt"))
    code, said = go_on()
    assert code == 2
    wrote = "transformers 4.1.0" if before else "another version of transformers"
    assert f"was written with {wrote}, and transformers {transformers.__version__}" in said
    assert "lora" not in said.splitlines()[-1]
