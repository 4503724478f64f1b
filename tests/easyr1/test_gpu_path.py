"""What a run on GPUs asks of vLLM and says of itself, through the ways that EasyR1 itself takes."""

import json
import shutil
from importlib import metadata
from types import SimpleNamespace

import pytest

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

import ray
from ranks import run_ranks, start_worker
from verl.workers import fsdp_workers
from verl.workers.fsdp_workers import FSDPWorker

from gmpo_vl.config import ConfigError
from gmpo_vl.engines.easyr1 import driver
from gmpo_vl.engines.easyr1.config import to_easyr1
from gmpo_vl.engines.easyr1.cpu import CPUWorker
from gmpo_vl.engines.easyr1.rollout import GMPOvLLMRollout
from gmpo_vl.engines.easyr1.serialisation import prompts_to_proto
from gmpo_vl.engines.easyr1.worker import GMPOWorker
from gmpo_vl.models.processing import load_processor
from gmpo_vl.setup import load_split, sampling_of

LORA = ["worker.actor.model.lora.rank=4", "worker.actor.model.lora.exclude_modules=.*visual.*"]


def handed_to_vllm(rank, world, config):
    """Tensors of the adapter that the sync which EasyR1's worker would build hands over, and that the model
    has.
    """
    worker = start_worker(config, double=False)
    FSDPWorker._build_rollout = lambda self: None  # in this process; vLLM itself is not needed here
    GMPOWorker._build_rollout(worker)
    kind = fsdp_workers.FSDPVLLMShardingManager
    manager = kind.__new__(kind)
    manager.module, manager.use_param_offload = worker.fsdp_module, False
    trained = [p for p in worker.fsdp_module.parameters() if p.requires_grad]
    return len(manager._collect_lora_weights()), len(trained)


def test_rollouts_get_the_whole_adapter(make_config):
    [(found, trained)] = run_ranks(
        1, handed_to_vllm, make_config(*LORA, "worker.actor.fsdp.use_orig_params=false")
    )
    assert found == trained > 0


def asked_of_vllm(rank, world, config):
    """The ids that a worker tells vLLM to stop at."""
    processor = load_processor(config.worker.actor.model.model_path)

    def build_rollout(self):
        settings = to_easyr1(config, 3).worker.rollout
        self.rollout = GMPOvLLMRollout(
            model_path="tiny", config=settings, tokenizer=processor.tokenizer, processor=None
        )

    CPUWorker._build_rollout = build_rollout  # in this process
    worker = start_worker(config, double=False)
    prompts = load_split(config, config.data.train_files, processor).encode([0])
    worker.rollout.generate_sequences(prompts_to_proto(prompts, [0], sampling_of(config), ranks=1))
    [(_, [settings])] = worker.rollout.inference_engine.asked
    return list(settings.stop_token_ids or [])


def test_vllm_is_told_every_end_token_by_the_worker(make_config, tiny_folder, tmp_path):
    """With n > 1 vLLM 0.11 forgets those that the generation config names beside the tokenizer's."""
    model = shutil.copytree(tiny_folder, tmp_path / "model")
    path = model / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [394, 396]}))
    [stops] = run_ranks(1, asked_of_vllm, make_config(f"worker.actor.model.model_path={model}"))
    assert stops == [394, 396]


@pytest.mark.parametrize("vllm", ["0.11.0+cpu", "0.11.0"])
def test_a_trial_without_a_gpu_says_what_samples(make_config, monkeypatch, capsys, vllm):
    installed = metadata.distribution
    monkeypatch.setattr(
        metadata,
        "distribution",
        lambda name: SimpleNamespace(version=vllm) if name == "vllm" else installed(name),
    )
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(driver, "_missing", lambda *_: None)
    assert driver.start_ray(make_config())
    sampler = f"vLLM {vllm}" if "cpu" in vllm else "transformers"
    assert f"rollouts by {sampler})" in capsys.readouterr().out


def test_what_torch_dies_of_is_refused_before_ray(make_config):
    half = "worker.actor.fsdp.mp_param_dtype=bf16"
    originals = "worker.actor.fsdp.use_orig_params=true"
    with pytest.raises(ConfigError, match="LoRA on one GPU"):
        to_easyr1(make_config(*LORA, half, originals), 3)
