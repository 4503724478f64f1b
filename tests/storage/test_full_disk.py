"""A full disk is named, with the file and the room on it, whatever was being written."""

import subprocess

import pytest
import torch
from safetensors.torch import save_file
from tiny_runs import BASE, settings_of_run

from gmpo_vl.cli import main
from gmpo_vl.data.sources import open_tables
from gmpo_vl.data.writing import parquet_writer
from gmpo_vl.storage.files import append_jsonl, naming, write_text
from gmpo_vl.storage.places import in_words

ROOM = "free on its disk"


@pytest.fixture
def disk(tmp_path):
    """A file system of so many KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kib: int):
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", folder], capture_output=True
        )
        if made.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "-l", folder], capture_output=True)


def parquet(path):
    with parquet_writer(path) as write:
        write({"images": [torch.rand(10**6).numpy().tobytes()], "problem": "x", "answer": "1"})


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_text(path, "x" * 10**6),
        lambda path: append_jsonl(path, [{"a": "x" * 10**6}]),
        parquet,
        lambda path: torch.save(torch.zeros(10**6), path),
        lambda path: save_file({"a": torch.zeros(10**6)}, path),
    ],
)
def test_every_writer_says_which_file_and_how_much_room(disk, write):
    path = disk(64) / "a"
    with pytest.raises(OSError) as error, naming(path):  # noqa: PT011
        write(path)
    said = in_words(error.value)
    assert str(path) in said
    assert ROOM in said


def test_an_error_that_is_about_something_else_stays_as_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="x"), naming(tmp_path):
        raise RuntimeError("x")


@pytest.mark.parametrize("kib", [8, 16, 24, 48, 100, 400, 2500])
def test_a_run_says_it(disk, kib, tmp_path, diagrams, tiny_folder, capsys):
    """On its configuration, its logs, a picture, a checkpoint: wherever the room ends."""
    (tmp_path / "run.yaml").write_text(BASE)
    settings = settings_of_run(tmp_path, diagrams, tiny_folder)
    folder = f"trainer.save_checkpoint_path={disk(kib) / 'run'}"
    code = main(["train", str(tmp_path / "run.yaml"), *settings, folder, "trainer.logger=[file,tensorboard]"])
    said = capsys.readouterr().err
    assert (code, ROOM in said, str(tmp_path / "disk/run") in said) == (2, True, True), said


@pytest.mark.parametrize(("command", "kib"), [("check", 8), ("check", 20), ("convert", 8)])
def test_the_commands_on_data_say_it(disk, command, kib, tmp_path, diagrams, tiny_folder, capsys):
    folder = disk(kib) / "out"
    (tmp_path / "run.yaml").write_text(BASE)
    columns = "images: images\nproblem: problem\nanswer: answer\n"
    (tmp_path / "map.yaml").write_text(f"source: {diagrams / 'train.parquet'}\n{columns}")
    of = {
        "check": [tmp_path / "run.yaml", *settings_of_run(tmp_path, diagrams, tiny_folder), "--out", folder],
        "convert": [tmp_path / "map.yaml", folder],
    }
    assert main(["data", command, *map(str, of[command])]) == 2
    said = capsys.readouterr().err
    assert ROOM in said
    assert str(folder) in said


def test_the_cache_of_data_sets_is_named_and_not_the_source(disk, tmp_path, monkeypatch):
    import datasets

    parquet(tmp_path / "a.parquet")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", disk(64) / "cache")
    with pytest.raises(OSError) as error:  # noqa: PT011
        open_tables(str(tmp_path / "a.parquet"))
    said = in_words(error.value)
    assert said.startswith(str(tmp_path / "disk/cache"))
    assert ROOM in said
    assert "HF_DATASETS_CACHE" in said


def test_a_write_of_a_file_that_nobody_knows_says_the_room_where_it_may_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = in_words(OSError(28, "No space left on device"))
    assert ROOM in said
    assert str(tmp_path) in said
