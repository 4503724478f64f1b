"""EasyR1's own example: every key of it is read, on both engines."""

import pytest
import yaml

from gmpo_vl.config import load_config, notices
from gmpo_vl.config.schema import value_of

EASYR1_EXAMPLE = {
    "data.train_files": "hiyouga/math12k@train",
    "data.val_files": "hiyouga/math12k@test",
    "data.prompt_key": "problem",
    "data.answer_key": "answer",
    "data.image_key": "images",
    "data.video_key": "videos",
    "data.image_dir": None,
    "data.video_fps": 2.0,
    "data.max_prompt_length": 2048,
    "data.max_response_length": 2048,
    "data.rollout_batch_size": 512,
    "data.mini_rollout_batch_size": None,
    "data.val_batch_size": 1024,
    "data.format_prompt": "./examples/format_prompt/math.jinja",
    "data.override_chat_template": None,
    "data.shuffle": True,
    "data.seed": 1,
    "data.min_pixels": 262144,
    "data.max_pixels": 4194304,
    "data.filter_overlong_prompts": True,
    "algorithm.adv_estimator": "grpo",
    "algorithm.disable_kl": False,
    "algorithm.use_kl_loss": True,
    "algorithm.kl_penalty": "low_var_kl",
    "algorithm.kl_coef": 1e-2,
    "algorithm.online_filtering": False,
    "algorithm.filter_key": "overall",
    "algorithm.filter_low": 0.01,
    "algorithm.filter_high": 0.99,
    "worker.actor.global_batch_size": 128,
    "worker.actor.micro_batch_size_per_device_for_update": 1,
    "worker.actor.micro_batch_size_per_device_for_experience": 2,
    "worker.actor.max_grad_norm": 1.0,
    "worker.actor.padding_free": True,
    "worker.actor.dynamic_batching": True,
    "worker.actor.ulysses_size": 1,
    "worker.actor.model.model_path": "Qwen/Qwen2.5-7B-Instruct",
    "worker.actor.model.enable_gradient_checkpointing": True,
    "worker.actor.model.trust_remote_code": False,
    "worker.actor.model.freeze_vision_tower": False,
    "worker.actor.model.lora.rank": 0,
    "worker.actor.model.lora.alpha": 64,
    "worker.actor.model.lora.target_modules": "all-linear",
    "worker.actor.model.lora.exclude_modules": ".*visual.*",
    "worker.actor.optim.lr": 1e-6,
    "worker.actor.optim.weight_decay": 1e-2,
    "worker.actor.optim.strategy": "adamw",
    "worker.actor.optim.lr_warmup_ratio": 0.0,
    "worker.actor.fsdp.enable_full_shard": True,
    "worker.actor.fsdp.enable_cpu_offload": False,
    "worker.actor.fsdp.enable_rank0_init": True,
    "worker.actor.offload.offload_params": True,
    "worker.actor.offload.offload_optimizer": True,
    "worker.rollout.n": 5,
    "worker.rollout.temperature": 1.0,
    "worker.rollout.top_p": 1.0,
    "worker.rollout.limit_images": 0,
    "worker.rollout.gpu_memory_utilization": 0.6,
    "worker.rollout.enforce_eager": False,
    "worker.rollout.enable_chunked_prefill": False,
    "worker.rollout.tensor_parallel_size": 2,
    "worker.rollout.disable_tqdm": False,
    "worker.rollout.val_override_config": {"temperature": 0.6, "top_p": 0.95, "n": 1},
    "worker.ref.fsdp.enable_full_shard": True,
    "worker.ref.fsdp.enable_cpu_offload": True,
    "worker.ref.fsdp.enable_rank0_init": True,
    "worker.ref.offload.offload_params": False,
    "worker.reward.reward_function": "./examples/reward_function/math.py:compute_score",
    "trainer.total_epochs": 15,
    "trainer.max_steps": None,
    "trainer.project_name": "easy_r1",
    "trainer.experiment_name": "qwen2_5_7b_math_grpo",
    "trainer.logger": ["file", "wandb"],
    "trainer.nnodes": 1,
    "trainer.n_gpus_per_node": 8,
    "trainer.max_try_make_batch": 20,
    "trainer.val_freq": 5,
    "trainer.val_before_train": True,
    "trainer.val_only": False,
    "trainer.val_generations_to_log": 3,
    "trainer.save_freq": 5,
    "trainer.save_limit": 3,
    "trainer.save_model_only": False,
    "trainer.save_checkpoint_path": None,
    "trainer.load_checkpoint_path": None,
    "trainer.find_last_checkpoint": True,
}


def nested(flat: dict) -> dict:
    tree: dict = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = value
    return tree


@pytest.fixture
def easyr1_example(tmp_path, monkeypatch):
    for name in ("examples/format_prompt/math.jinja", "examples/reward_function/math.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "easyr1.yaml"
    path.write_text(yaml.safe_dump(nested(EASYR1_EXAMPLE)))
    return path


def test_easyr1s_example_loads_on_both_engines(easyr1_example):
    for engine in ("local", "easyr1"):
        config = load_config(easyr1_example, [f"engine={engine}"])
        assert config.written == {*EASYR1_EXAMPLE, "engine"}
        unresolved = {"trainer.save_checkpoint_path"}
        assert {key: value_of(config, key) for key in EASYR1_EXAMPLE if key not in unresolved} == {
            key: value for key, value in EASYR1_EXAMPLE.items() if key not in unresolved
        }


def test_placement_keys_are_named_once_in_one_line(easyr1_example):
    notice = "; ".join(notices(load_config(easyr1_example)))
    assert "\n" not in notice
    for key in (
        "worker.actor.padding_free",
        "worker.ref.fsdp.enable_cpu_offload",
        "trainer.nnodes",
        "data.video_key",
    ):
        assert notice.count(key) == 1
    for key in (
        "worker.actor.global_batch_size",
        "data.max_pixels",
        "worker.actor.optim.lr",
        "algorithm.kl_coef",
    ):
        assert key not in notice
    assert notices(load_config(easyr1_example, ["engine=easyr1"])) == []


def test_easyr1s_habit_of_switching_kl_off_on_the_command_line_works(easyr1_example):
    config = load_config(easyr1_example, ["algorithm.disable_kl=True"])
    assert config.algorithm.disable_kl
    assert config.algorithm.use_kl_loss
