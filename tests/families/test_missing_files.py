"""A picture model's folder without one of its files is named with the file, before a row is read."""

import shutil
from pathlib import Path

import pytest
from families.tiny import each_family
from tiny_runs import BASE

from gmpo_vl.cli import main
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.storage.files import write_json

FILES = ("preprocessor_config.json", "processor_config.json")
# Their processors take everything from the image processor and the tokenizer.
WITHOUT_VALUES = ("glm4v", "glm4v_moe", "glm46v", "minicpmv4_6")


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


@each_family()
def test_both_files_missing(name, copy):
    for file in FILES:
        (copy / file).unlink()
    with pytest.raises(
        ValueError, match=f"a '{name}' takes pictures, but there is neither {FILES[0]} nor {FILES[1]}"
    ):
        load_processor(copy)


@each_family(common=["gemma3", "llava", "internvl"])
def test_the_processor_s_file_missing(name, copy):
    (copy / FILES[1]).unlink()
    if name in WITHOUT_VALUES:
        load_processor(copy)
        return
    with pytest.raises(
        ValueError, match=r"processor_config\.json is missing, which gives its \w+Processor \w+"
    ):
        load_processor(copy)


@each_family()
def test_the_image_processor_s_file_missing(copy):
    (copy / FILES[0]).unlink()
    with pytest.raises(ValueError, match=r"preprocessor_config\.json is missing, which says how pictures"):
        load_processor(copy)


def test_qwen_s_too(tmp_path):
    folder = save_tiny(tmp_path / "model")
    write_json(folder / FILES[1], {"processor_class": "Qwen2_5_VLProcessor"})
    (folder / FILES[0]).unlink()
    with pytest.raises(ValueError, match=r"preprocessor_config\.json is missing"):
        load_processor(folder)
    (folder / FILES[1]).unlink()
    with pytest.raises(ValueError, match="a 'qwen2_5_vl' takes pictures"):
        load_processor(folder)


@pytest.mark.parametrize("name", ["llava"])
def test_no_command_blames_the_rows(copy, overrides, diagrams, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(BASE)
    for file in FILES:
        (copy / file).unlink()
    config = [str(tmp_path / "run.yaml"), *overrides, f"worker.actor.model.model_path={copy}"]
    data = ["--data", str(diagrams / "test.parquet")]
    for command in (["train", *config], ["train", "--dry-run", *config], ["data", "check", *config],
                    ["data", "show", *config], ["eval", str(copy), *data]):  # fmt: skip
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"gmpo-vl: {copy}: a 'llava' takes pictures"), command
        assert "parquet" not in said
    assert main(["doctor", *config]) == 1
    assert "ERROR tokens" in capsys.readouterr().out
