"""Folders in files' places, files in folders' places, missing rights: said when a run is opened, before a
step is computed.
"""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from kills import in_a_fork

from gmpo_vl.cli import main
from gmpo_vl.engines.local import engine
from gmpo_vl.runs import Run
from gmpo_vl.storage.places import check_file, make_folder

FILES = ("metrics.jsonl", "config.yaml", "checkpoints/best.json", "lock", "probe.pt",
         "picture_hashes.json", "weight_hashes.json",
         "train.bad_rows.jsonl", "metrics.discarded.jsonl", "rollouts.discarded.jsonl",
         "rollouts/step_000002.jsonl", "rollouts/validation_000000.jsonl")  # fmt: skip
FOLDERS = ("checkpoints", "rollouts", "images", "")


@pytest.mark.parametrize("name", FILES + FOLDERS)
def test_what_stands_in_another_s_place_is_said_before_anything_is_loaded(
    name, config_file, overrides, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(engine, "LocalEngine", None)
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name in FILES:
        path.mkdir()
    else:
        path.write_text("somebody's")
    assert main(["train", str(config_file), *overrides]) == 2
    here, needed = ("folder", "file") if name in FILES else ("file", "folder")
    said = capsys.readouterr().err
    assert f"{path}: a {here} stands where a {needed} is needed: move it away" in said
    assert "Errno" not in said


def test_a_folder_below_a_file_is_said(config_file, overrides, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "deep" / "run"
    assert main(["train", str(config_file), *overrides, f"trainer.save_checkpoint_path={folder}"]) == 2
    assert "a part of this path is a file where a folder is needed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml", "rollouts/step_000001.jsonl"])
def test_readers_say_it_too(name, tmp_path, capsys):
    run = Run(tmp_path).create()
    run.append_metrics(1, {"val/accuracy": 0.5})
    (run.folder / name).unlink(missing_ok=True)
    (run.folder / name).mkdir()
    code = main(["report", str(tmp_path)])
    said = capsys.readouterr().err
    assert (code, "Errno" in said) == (2 if name == "metrics.jsonl" else 0, False)


def test_what_is_no_file_at_all_is_said(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    (tmp_path / "config.yaml").symlink_to("nowhere")
    for name in ("metrics.jsonl", "config.yaml"):
        with pytest.raises(OSError, match=f"{name} is no file, and a file is needed there"):
            Run(tmp_path).create()
        (tmp_path / name).unlink()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_missing_rights_are_said():
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "metrics.jsonl").write_text("")
    (folder / "secret").write_text("")
    (folder / "secret").chmod(stat.S_IWUSR)

    def as_nobody():
        os.setuid(65534)
        for attempt in (
            lambda: make_folder(folder),
            lambda: make_folder(folder / "new"),
            lambda: check_file(folder / "metrics.jsonl", appended=True),
            lambda: check_file(folder / "secret"),
        ):
            with pytest.raises(PermissionError, match=rf"{folder}.*: this user lacks the right"):
                attempt()
        check_file(folder / "metrics.jsonl")

    try:
        assert in_a_fork(as_nobody) == 0
    finally:
        shutil.rmtree(folder)
