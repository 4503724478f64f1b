"""What is saved under one version of transformers is the same model under the other: 4.57 and 5.x, both
ways."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import versions

from gmpo_vl.models.compat import TRANSFORMERS_5, complete_config, save_pretrained, with_old_names
from gmpo_vl.models.loading import load_model, model_config
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.storage.files import write_json

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:prompts are not shared")


def other_python():
    """Python of another environment of the Makefile, with the other version of transformers; None where there
    is none."""
    for environment in sorted({*Path(sys.prefix).parent.glob(".venv*"), *ROOT.glob(".venv*")}):
        found = [
            path.name for path in environment.glob("lib/python3*/site-packages/transformers-*.dist-info")
        ]
        if any(name.startswith("transformers-5") != TRANSFORMERS_5 for name in found):
            return environment / "bin" / "python"
    return None


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of models by the version that wrote them, 4 and 5, and each one's gaps under the other
    version."""
    python = other_python()
    if python is None:
        reason = "only one version of transformers is installed here: make setup setup-t4 installs both"
        assert "BOTH_VERSIONS" not in os.environ, reason
        pytest.skip(reason)
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    versions.write(ours)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [python, versions.__file__, ours, theirs]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = [(ours, json.loads((ours / "gaps.json").read_text())), (theirs, versions.gaps(theirs))]
    return dict(zip((5, 4) if TRANSFORMERS_5 else (4, 5), found))


@pytest.mark.parametrize("writer", [4, 5])
def test_every_model_has_its_logits_under_the_other_version(writer, saved):
    _, gaps = saved[writer]
    assert gaps.keys() >= {f"{name}.local" for name, *_ in versions.cases()}
    assert len([name for name in gaps if name.endswith(".export")]) == len(versions.EXPORTED)
    assert not {name: gap for name, gap in gaps.items() if isinstance(gap, str) or not gap < 1e-4}


def test_a_decoders_values_written_under_5_are_all_those_that_4_57_writes(saved):
    """EasyR1 and vLLM look for more of them than the model's code does."""
    for name, *_ in versions.cases():
        configs = [json.loads((saved[v][0] / f"{name}.local" / "config.json").read_text()) for v in (4, 5)]
        old, new = (config.get("text_config", config) for config in configs)
        interval = {"full_attention_interval"}  # 5.x writes the layer_types that follow from it
        assert old.keys() - interval <= new.keys(), name
        for key in ("rope_theta", "architectures", "tie_word_embeddings", "num_experts"):
            assert key not in old or old[key] == new[key], (name, key)
        scaling, of_new = old["rope_scaling"] or {}, new["rope_scaling"] or {}
        assert {k: v for k, v in scaling.items() if k != "type"}.items() <= of_new.items(), name


@pytest.mark.skipif(TRANSFORMERS_5, reason="it is 4.57 that misreads what 5 writes")
@pytest.mark.parametrize("family", ["qwen2", "qwen3_moe", "qwen2_5_vl"])
def test_a_folder_that_another_program_saved_under_5_is_refused_until_completed(family, saved, tmp_path):
    config = json.loads((saved[5][0] / f"{family}-theta.local" / "config.json").read_text())
    write_json(tmp_path / "config.json", as_5_alone_writes(config))
    with pytest.raises(ValueError, match=r"written by transformers 5.*rope_theta.*complete_config"):
        load_model(tmp_path)
    complete_config(tmp_path)
    model_config(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == config


def as_5_alone_writes(config):
    old = ("rope_theta", "rope_scaling", "num_experts")
    plain = {key: value for key, value in config.items() if key not in old}
    if "text_config" in plain:
        plain["text_config"] = as_5_alone_writes(plain["text_config"])
        plain["text_config"].pop("architectures", None)
    return plain


def test_what_a_config_says_already_stays():
    said = {"rope_theta": 1.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}, "num_experts": 8}
    config = {**said, "rope_parameters": {"rope_theta": 2.0, "rope_type": "default"}, "num_local_experts": 4}
    assert with_old_names(config) == config
    by_layer = {"rope_parameters": {"full_attention": {"rope_theta": 1.0}, "sliding_attention": None}}
    assert with_old_names(by_layer) == by_layer
    half = {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5}
    assert with_old_names({"rope_parameters": half}) == {
        "rope_parameters": half,
        "rope_theta": 1e4,
        "rope_scaling": None,
        "partial_rotary_factor": 0.5,
    }


def test_a_model_that_was_loaded_is_saved_as_the_file_it_came_from(tmp_path):
    """A run that goes on writes the same config.json as one that was never stopped."""
    first, again = tmp_path / "first", tmp_path / "again"
    save_pretrained(load_model(save_tiny(tmp_path / "start")), first)
    save_pretrained(load_model(first), again)
    assert (again / "config.json").read_text() == (first / "config.json").read_text()
