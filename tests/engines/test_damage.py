"""What lies in a run's folder and is not what was saved: named, never trained on, never run."""

import json
import os
import pickle
import resource
import shutil
from pathlib import Path

import pytest
import torch

from gmpo_vl.engines import checkpoint
from gmpo_vl.engines.checkpoint import check_whole
from gmpo_vl.engines.local import checkpoint as local_checkpoint
from gmpo_vl.engines.local import engine as local_engine
from gmpo_vl.models.loading import load_model
from gmpo_vl.runs import Run
from gmpo_vl.storage.manifest import MANIFEST

SETTINGS = ["trainer.kl_to_start_freq=1", "trainer.val_freq=-1"]
STEPS = 4  # with checkpoints of 2 and 4


def flip(path: Path, place: float) -> None:
    """Another bit at this share of the file."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "cut off": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "missing": Path.unlink,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "first bit": lambda path: flip(path, 0.0),
    "a bit within": lambda path: flip(path, 0.37),
    "last bit": lambda path: flip(path, 1.0),
}


def test_every_file_of_a_checkpoint_is_guarded(run, capsys):
    folder = run.checkpoint(4)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert {"model.safetensors", "config.json", "optimizer.pt", "state.pt", MANIFEST} <= {
        p.name for p in files
    }
    for path in files:
        content = path.read_bytes()
        for damage in DAMAGES.values():
            damage(path)
            with pytest.raises(ValueError, match="is damaged") as found:
                check_whole(folder)
            assert path.name in str(found.value)
            assert f"Move it away to go on from step 2 ({run.checkpoint(2)} is whole)" in str(found.value)
            path.write_bytes(content)
    check_whole(folder)
    assert capsys.readouterr().out == ""


def test_a_damaged_checkpoint_is_moved_away_and_the_run_goes_on_from_the_one_before(run, go_on):
    before = [line.get("actor/grad_norm") for line in run.read_metrics()]
    flip(run.checkpoint(4) / "huggingface" / "model.safetensors", 0.9)
    code, said = go_on()
    assert code == 2
    assert "huggingface/model.safetensors is not what was saved" in said
    assert "Traceback" not in said
    run.checkpoint(4).rename(run.folder / "damaged")
    code, said = go_on()
    assert code == 0
    assert f"going on from {run.checkpoint(2)}" in said
    assert [line.get("actor/grad_norm") for line in run.read_metrics()][:-1] == before


def test_the_way_out_names_no_checkpoint_that_is_damaged_too(run):
    for step in (2, 4):
        (run.checkpoint(step) / "trainer" / "optimizer.pt").unlink()
    with pytest.raises(
        ValueError, match=r"trainer/optimizer.pt is missing\. There is no older one that is whole"
    ):
        check_whole(run.checkpoint(4))


def test_files_that_nobody_reads_are_let_be(run, capsys):
    folder = run.checkpoint(4)
    for name in ("README.md", "notes.txt", ".cache/x", "q8.gguf"):
        (folder / "huggingface" / name).parent.mkdir(exist_ok=True)
        (folder / "huggingface" / name).write_text("mine")
    check_whole(folder)
    (folder / "huggingface" / "README.md").unlink()
    check_whole(folder)
    for name in ("adapter_config.json", "special_tokens_map.json", "chat_templates/x.jinja"):
        added = folder / "huggingface" / name
        added.parent.mkdir(exist_ok=True)
        added.write_text("{}")
        with pytest.raises(ValueError, match=f"{name} was added, and would be read for what was saved"):
            check_whole(folder)
        added.unlink()


class Hostile:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def of_an_earlier_version(run: Run) -> None:
    """As checkpoints were before there was a manifest."""
    for step in run.checkpoint_steps():
        path = run.checkpoint(step) / "trainer" / "state.pt"
        state = torch.load(path, weights_only=True)
        torch.save({key: state[key] for key in state if key not in ("manifest", "probe", "pictures")}, path)
        (run.checkpoint(step) / MANIFEST).unlink()


@pytest.mark.parametrize("name", ["trainer/state.pt", "trainer/optimizer.pt"])
def test_a_hostile_pickle_is_not_run(run, go_on, tmp_path, name):
    of_an_earlier_version(run)
    path = run.checkpoint(4) / name
    for content in ({"step": Hostile(tmp_path / "ran")}, Hostile(tmp_path / "ran")):
        torch.save(content, path)
        code, said = go_on()
        assert code == 2
        assert f"{path} cannot be read" in said
        path.write_bytes(pickle.dumps(content))
        code, said = go_on()
        assert code == 2
        assert name in said
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_an_earlier_version_is_taken_and_told(run, go_on):
    of_an_earlier_version(run)
    code, said = go_on()
    assert code == 0
    assert said.count(f"{run.checkpoint(4)} is of an earlier version, without manifest.json") == 1
    assert said.count("pictures that changed since would go unnoticed") == 1
    assert said.count("probe.pt: the checkpoint does not say what was in it") == 1
    assert (run.checkpoint(5) / MANIFEST).is_file()


def test_an_earlier_version_s_files_are_looked_at_as_far_as_they_tell(run):
    of_an_earlier_version(run)
    for name in ("huggingface/model.safetensors", "trainer/optimizer.pt", "trainer/state.pt"):
        path = run.checkpoint(4) / name
        content = path.read_bytes()
        for damage in ("cut off", "empty"):
            DAMAGES[damage](path)
            with pytest.raises(
                ValueError, match=rf"{name} is no whole .*go on from step 2 .*as far as can be told"
            ):
                check_whole(run.checkpoint(4))
        path.write_bytes(content)


def test_a_manifest_that_was_removed_is_missed(run):
    (run.checkpoint(4) / MANIFEST).unlink()
    with pytest.raises(ValueError, match=r"manifest\.json is missing"):
        check_whole(run.checkpoint(4))


KEPT = {
    "nothing": [],
    "a manifest": [MANIFEST],
    "a manifest and the model": [MANIFEST, "huggingface"],
    "the model": ["huggingface"],
    "the trainer's": ["trainer"],
    "an empty part": ["huggingface/nothing"],
}


@pytest.mark.parametrize("kept", KEPT)
def test_a_checkpoint_that_holds_less_than_one_is_named_with_the_way_out(run, go_on, kept):
    folder = run.checkpoint(6)
    folder.mkdir()
    for name in KEPT[kept]:
        source = run.checkpoint(4) / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.is_file():
            shutil.copy(source, folder / name)
        else:
            (folder / name).mkdir(parents=True)
    code, said = go_on()
    assert code == 2
    assert f"{folder} is damaged: " in said
    assert f"Move it away to go on from step 4 ({run.checkpoint(4)} is whole)" in said
    assert "load_checkpoint_path" not in said
    folder.rename(run.folder / "away")
    assert go_on()[0] == 0
    assert [line["step"] for line in run.read_metrics()] == [0, 1, 2, 3, 4, 5]


def test_an_empty_checkpoint_alone_is_named_too(run, go_on):
    for step in (2, 4):
        shutil.rmtree(run.checkpoint(step))
    run.checkpoint(3).mkdir()
    code, said = go_on()
    assert code == 2
    assert f"{run.checkpoint(3)} is damaged: it holds neither trainer/state.pt nor manifest.json" in said
    assert "There is no older one that is whole" in said
    shutil.rmtree(run.checkpoint(3))
    code, said = go_on(f"trainer.load_checkpoint_path={run.checkpoints}")
    assert code == 2
    assert f"{run.checkpoints} is no checkpoint of engine local (no huggingface folder in it)" in said


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"files": {}}', '{"files": {"a": 1}}', '{"files": [1]}', "\0"]
)
def test_a_manifest_that_says_nothing_is_damage(run, content):
    (run.checkpoint(4) / MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json.*Move it away to go on from step 2"):
        check_whole(run.checkpoint(4))


def test_a_checkpoint_under_another_s_name_is_refused(run, go_on):
    shutil.copytree(run.checkpoint(2), run.checkpoint(5))
    code, said = go_on()
    assert code == 2
    assert "step_000005 holds step 2: give it the name it had, step_000002" in said


def test_a_damaged_checkpoint_is_no_start_and_no_model_either(run, go_on, tmp_path):
    flip(run.checkpoint(4) / "huggingface" / "config.json", 0.5)
    elsewhere = f"trainer.save_checkpoint_path={tmp_path / 'other'}"
    code, said = go_on(elsewhere, f"trainer.load_checkpoint_path={run.checkpoint(4)}")
    assert code == 2
    assert "huggingface/config.json is not what was saved" in said
    with pytest.raises(ValueError, match=r"huggingface/config\.json is not what was saved"):
        load_model(run.checkpoint(4) / "huggingface")
    load_model(run.checkpoint(2) / "huggingface")


def test_weights_that_are_cut_off_are_named(tiny_folder, tmp_path):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    DAMAGES["cut off"](folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"{folder}: its weights are damaged"):
        load_model(folder)


# --- a disk that is full ---
def limited(write, size: int):
    """The function, on a disk that takes no file beyond this size. Python ignores the signal that comes with
    the error.
    """

    def wrapped(*args, **kwargs):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            return write(*args, **kwargs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return wrapped


@pytest.mark.parametrize(
    ("module", "function", "size", "file"),
    [
        (local_engine, "save_model", 300_000, "huggingface/*.safetensors"),
        (local_engine, "save_optimizer", 20_000, "trainer/optimizer.pt"),
        (local_checkpoint, "copy_without_weights", 10, "huggingface/"),
        (checkpoint, "write_manifest", 10, MANIFEST),
    ],
    ids=["weights", "optimizer", "tokenizer", "manifest"],
)
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    run, go_on, monkeypatch, module, function, size, file
):
    with monkeypatch.context() as patched:
        patched.setattr(module, function, limited(getattr(module, function), size))
        code, said = go_on()
    assert code == 2
    assert "Traceback" not in said
    sentence = next(line for line in said.splitlines() if "could not be written" in line)
    assert f".partial_step_000005/{file}" in sentence.split(" could not be written")[0]
    assert "free on its disk" in sentence
    assert "of an unfinished checkpoint" in sentence
    assert run.checkpoint_steps() == [2, 4]
    assert not list(run.checkpoints.glob(".partial*"))
    check_whole(run.checkpoint(4))


def test_after_room_was_made_the_run_goes_on(run, go_on, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(local_engine, "save_optimizer", limited(local_engine.save_optimizer, 20_000))
        assert go_on()[0] == 2
    assert go_on()[0] == 0
    assert run.checkpoint_steps() == [2, 4, 5]
    assert [line["step"] for line in run.read_metrics()] == [0, 1, 2, 3, 4, 5]


def test_a_line_that_cannot_be_written_names_its_file(run, go_on, monkeypatch):
    monkeypatch.setattr(
        Run, "append_metrics", limited(Run.append_metrics, run.metrics_file.stat().st_size + 50)
    )
    code, said = go_on()
    assert code == 2
    assert "File too large" in said
    assert "free on its disk" in said
    assert str(run.metrics_file) in said
    monkeypatch.undo()
    assert go_on()[0] == 0
    assert [line["step"] for line in run.read_metrics()] == [0, 1, 2, 3, 4, 5]


def test_a_curve_that_two_runs_wrote_is_not_gone_on_with_in_silence(run, go_on):
    lines = run.metrics_file.read_text().splitlines(keepends=True)
    run.metrics_file.write_text("".join([*lines[:3], lines[1], *lines[3:]]))
    code, said = go_on()
    assert code == 0
    assert f"WARNING: {run.metrics_file}, line 4: step 1 again, as in line 2" in said
    assert "hole" not in said


# --- the probe ---
def test_a_probe_that_is_not_what_it_was_is_not_measured_on(run, go_on):
    content = run.probe_file.read_bytes()
    for damage in DAMAGES.values():
        damage(run.probe_file)
        code, said = go_on()
        assert code == 2
        assert "probe.pt is" in said
        assert "trainer.kl_to_start_freq=-1 to go on without" in said
        run.probe_file.write_bytes(content)
    run.probe_file.unlink()
    assert go_on("trainer.kl_to_start_freq=-1")[0] == 0
    run.probe_file.write_bytes(content)
    code, said = go_on("trainer.max_steps=6")
    assert code == 0
    assert "actor/kl_to_start" in run.read_metrics()[-1]


def test_an_earlier_version_s_probe_is_missed_and_has_to_be_whole(run, go_on):
    of_an_earlier_version(run)
    content = run.probe_file.read_bytes()
    for damage, said_of in (("missing", "probe.pt is missing"), ("cut off", "probe.pt cannot be read")):
        DAMAGES[damage](run.probe_file)
        code, said = go_on()
        assert code == 2
        assert said_of in said
        run.probe_file.write_bytes(content)


def test_state_of_an_earlier_version_without_a_key_is_named(run, go_on):
    of_an_earlier_version(run)
    path = run.checkpoint(4) / "trainer" / "state.pt"
    torch.save({"step": 4}, path)
    code, said = go_on()
    assert code == 2
    assert "state.pt cannot be read: no 'data' in it" in said
    assert json.loads((run.checkpoint(4) / "huggingface" / "config.json").read_text())
