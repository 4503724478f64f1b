"""Every weight that is trained reaches vLLM: its log-probs are the trainer's, before and after an update of
everything.
"""

import peft
import pytest
import torch

pytest.importorskip("vllm.v1", reason="vLLM is not installed: make test-vllm EASYR1_HOME=FOLDER")
pytest.importorskip("verl", reason="EasyR1 is not installed: make test-vllm EASYR1_HOME=FOLDER")

from gaps import RIGHT, WRONG, largest_gap, move_weights
from ranks import run_ranks

from gmpo_vl.engines.easyr1 import sync
from gmpo_vl.engines.easyr1.config import to_easyr1
from gmpo_vl.engines.easyr1.cpu import CPUWorker
from gmpo_vl.engines.easyr1.serialisation import answers_of, prompts_to_proto
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.setup import load_split, sampling_of
from gmpo_vl.types import Example, Group

LORA = [
    "worker.actor.model.lora.rank=4",
    "worker.actor.model.lora.exclude_modules=.*visual.*",
    "worker.actor.fsdp.use_orig_params=false",
]


def gaps(rank, world, config, change=None, names=("",), steps=3):
    """Largest |log-prob of the sampler - of the trainer| of each of some steps.

    Between them all trained weights whose names hold one of `names` move. change: what is done to the worker
    after the first step.
    """
    worker = CPUWorker(to_easyr1(config, steps, cpu=True).worker, "actor_rollout_ref")
    worker.init_model()
    processor = load_processor(config.worker.actor.model.model_path)
    prompts = [encode_prompt(Example("text", "What is 1 + 2?", "3"), processor)]
    if processor.image is not None:
        prompts += load_split(config, config.data.train_files, processor).encode([0, 1])
    found = []
    for step in range(steps):
        groups = sampled(worker, prompts, config, step)
        found.append(largest_gap(worker, groups))
        move_weights(worker.fsdp_module, names, seed=step)
        if change is not None and step == 0:
            change(worker)
    return torch.tensor(found)


def sampled(worker, prompts, config, step):
    worker.prepare_rollout_engine()
    asked = prompts_to_proto(prompts, [step] * len(prompts), sampling_of(config), 1)
    answers = answers_of(worker.generate_sequences(asked))
    worker.release_rollout_engine()
    return [Group(str(i), prompt, of) for i, (prompt, of) in enumerate(zip(prompts, answers))]


@pytest.mark.parametrize("ranks", [1, 2])
def test_pictures_and_text(make_config, note, ranks):
    for rank, found in enumerate(run_ranks(ranks, gaps, make_config(f"trainer.n_gpus_per_node={ranks}"))):
        note(found, f"rank {rank}")
        assert found.max() < RIGHT


def test_tensor_parallel(make_config, note, two_heads):
    over_two = ["trainer.n_gpus_per_node=2", "worker.rollout.tensor_parallel_size=2"]
    config = make_config(*over_two, f"worker.actor.model.model_path={two_heads}")
    for rank, found in enumerate(run_ranks(2, gaps, config)):
        note(found, f"rank {rank}")
        assert found.max() < RIGHT


@pytest.mark.parametrize("name", ["pretrained", "pretrained_moe"])
def test_a_tied_head_and_experts(make_config, note, packaged, name):
    (found,) = run_ranks(1, gaps, make_config(f"worker.actor.model.model_path={packaged(name)}"))
    note(found)
    assert found.max() < RIGHT


def without_sync(worker):
    worker.rollout_sharding_manager._sync_weight_to_vllm = lambda: None


def without_drain(worker):
    worker.rollout_sharding_manager._drain_vllm_encoder_cache = lambda: None


@pytest.mark.parametrize("change", [without_sync, without_drain])
def test_what_is_not_brought_over_shows(make_config, note, change):
    (found,) = run_ranks(1, gaps, make_config(), change)
    note(found)
    assert found[0] < RIGHT
    assert found[2] > WRONG


# The weights under an adapter are held in bf16 by EasyR1: these are bf16 numbers already.
@pytest.mark.parametrize("ranks", [1, 2])
def test_an_adapter(make_config, note, packaged, ranks):
    config = make_config(
        *LORA,
        f"worker.actor.model.model_path={packaged('pretrained')}",
        f"trainer.n_gpus_per_node={ranks}",
    )
    for rank, found in enumerate(run_ranks(ranks, gaps, config)):
        note(found, f"rank {rank}")
        assert found.max() < RIGHT


def refusal(rank, world, config, change=None):
    """What the sync says of an adapter; nothing where it is content."""
    if change is not None:
        change()
    try:
        gaps(rank, world, config, names=("lora_",), steps=1)
    except ValueError as error:
        return str(error)
    return ""


def find_nothing():
    """EasyR1's own way: peft >= 0.21, asked layer by layer, finds no tensor."""
    sync.adapter_tensors = peft.get_peft_model_state_dict


def say_nothing():
    find_nothing()
    sync.check_complete = sync.check_placed = lambda *_: None


def test_an_empty_adapter_is_refused(make_config, packaged):
    config = make_config(*LORA, f"worker.actor.model.model_path={packaged('pretrained')}")
    (said,) = run_ranks(1, refusal, config, find_nothing)
    assert "LoRA: 0 of the adapter's" in said


def quietly_empty(rank, world, config):
    say_nothing()
    return gaps(rank, world, config, names=("lora_",))


def test_an_empty_adapter_that_nobody_refuses_shows(make_config, note, packaged):
    config = make_config(*LORA, f"worker.actor.model.model_path={packaged('pretrained')}")
    (found,) = run_ranks(1, quietly_empty, config)
    note(found)
    assert found[0] < RIGHT
    assert found[1] > WRONG


def test_an_adapter_that_vllm_has_no_place_for_is_refused(make_config, packaged):
    config = make_config(*LORA, f"worker.actor.model.model_path={packaged('pretrained_moe')}")
    (said,) = run_ranks(1, refusal, config)
    assert "vLLM has no place for" in said
