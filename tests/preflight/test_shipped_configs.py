"""Every shipped configuration passes the doctor on the GPUs that it names, as far as that can be known
without weights and data.

The model is one of its shape that holds nothing, its longest prompt is as long as the configuration allows,
nearly all of it a picture where the model sees; the GPU is a stand-in that has so much memory and computes
nothing.
"""

import json
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
import yaml
from published_shapes import BILLIONS, SHAPES
from tiny_families import save_tiny_text
from transformers import CONFIG_MAPPING

from gmpo_vl import setup
from gmpo_vl.config import load_config
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.preflight import doctor
from gmpo_vl.preflight.doctor import Model, examine
from gmpo_vl.preflight.model_check import check_model_class
from gmpo_vl.sizing.parameters import model_size

CONFIGS = Path(__file__).parents[2] / "configs"
NAMED = r"(\d+) GPUs? of (\d+) GB"
ON_A_CPU = {
    "alfworld_tiny_cpu.yaml",
    "countdown_tiny_moe.yaml",
    "demo.yaml",
    "demo_agent.yaml",
    "geometry3k_tiny_cpu.yaml",
    "gridworld_tiny_cpu.yaml",
    "look_shortcut.yaml",
}
SHIPPED = sorted(CONFIGS.glob("*.yaml")) + sorted(CONFIGS.glob("ablation/*.yaml"))
ON_GPUS = [path for path in SHIPPED if path.name not in ON_A_CPU]
# Of what is on the label torch sees so much; a context takes half a GiB.
SEEN, CONTEXT = 0.98, 2**29


def gpus_named(path: Path) -> tuple[int, int]:
    """(GPUs, GB of each) by the comment of a configuration, or of the nearest below it that has one."""
    text = path.read_text(encoding="utf-8")
    named = re.search(NAMED, text)
    if named is not None:
        return int(named[1]), int(named[2])
    base = yaml.safe_load(text).get("base")
    assert base is not None, f"{path.name}: name the GPUs that it is for, as in '8 GPUs of 80 GB'"
    return gpus_named(path.parent / base)


@cache
def size_of_model(name: str, folder: Path):
    if SHAPES[name]["model_type"] not in CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} does not know {SHAPES[name]['model_type']}")
    folder = folder / name.replace("/", "_")
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPES[name]))
    return model_size(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shapes")


@pytest.fixture(scope="module")
def processors(tmp_path_factory):
    """(of a text model, of one that sees)"""
    text = save_tiny_text(tmp_path_factory.mktemp("text"))
    return load_processor(text), load_processor(save_tiny(tmp_path_factory.mktemp("vl")))


@pytest.fixture
def examined(folder, processors, monkeypatch, tmp_path):
    """The doctor's findings about a configuration, on a GPU of so many GB."""

    def run(path: Path, gb: int):
        config = load_config(str(path), [f"trainer.save_checkpoint_path={tmp_path / 'run'}"])
        size = size_of_model(str(config.worker.actor.model.model_path), folder)
        processor, memory = processors[hasattr(size.config, "vision_config")], SEEN * gb * 2**30

        def look_at_model(config):
            yield from check_model_class(config, size)
            return Model(folder, size, processor)

        def look_at_rows(*_):
            yield from ()
            longest = config.data.max_prompt_length
            pictures = [longest - 100] if processor.image is not None else [0]
            train = SimpleNamespace(rows=100_000, tokens_K=[longest], image_tokens_K=pictures)
            return SimpleNamespace(surveys={"train": train}, errors={"train": set()}, checkers={})

        monkeypatch.setattr(doctor, "look_at_model", look_at_model)
        monkeypatch.setattr(doctor, "look_at_rows", look_at_rows)
        monkeypatch.setattr(setup, "configured_model", lambda config: size.config)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: f"a GPU of {gb} GB")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(memory - CONTEXT), int(memory)))
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=memory)
        )
        # The disk is this machine's.
        return [finding for finding in examine(config, tmp_path) if finding.check != "disk"]

    return run


@pytest.mark.parametrize("path", ON_GPUS, ids=lambda path: path.stem)
def test_it_passes_on_the_gpus_that_it_names(path, examined):
    gpus, gb = gpus_named(path)
    config = load_config(str(path))
    assert gpus == (1 if config.engine == "local" else config.trainer.n_gpus_per_node * config.trainer.nnodes)
    found = examined(path, gb)
    assert [finding.what for finding in found if finding.level == "error"] == []
    assert [finding.level for finding in found if finding.check == "memory"][-1] == "ok"


def test_a_gpu_that_is_too_small_is_found(examined):
    found = examined(CONFIGS / "qwen2_5_vl_7b_geo3k_gmpo.yaml", 16)
    assert [finding.check for finding in found if finding.level == "error"] == ["memory"]


@pytest.mark.parametrize("name", BILLIONS)
def test_the_shapes_are_those_of_the_published_models(name, folder):
    assert size_of_model(name, folder).parameters / 1e9 == pytest.approx(BILLIONS[name], rel=0.01)


@pytest.mark.parametrize("name", sorted(ON_A_CPU))
def test_those_for_a_cpu_name_no_gpu(name):
    assert re.search(NAMED, (CONFIGS / name).read_text(encoding="utf-8")) is None
    assert load_config(str(CONFIGS / name)).engine == "local"
