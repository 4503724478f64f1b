"""Our settings as EasyR1's dataclasses.

`gmpo_vl.config` has read and checked the file, and refused unknown keys and values (EasyR1 trains PPO for a
loss_type it does not know). EasyR1's own parts read EasyR1's dataclasses. Ours read `GMPOWorkerConfig.run`,
the settings of the file, which travel with them to every worker.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from verl.trainer.config import PPOConfig
from verl.workers.config import WorkerConfig

from gmpo_vl.config import Config
from gmpo_vl.engines.easyr1.limits import check, easyr1_loss
from gmpo_vl.storage.places import installed

T = TypeVar("T")


@dataclass
class GMPOWorkerConfig(WorkerConfig):
    """What a worker is told. run: the settings of the run. cpu: without a GPU (cpu.py)."""

    run: Config | None = None
    cpu: bool = False


def to_easyr1(config: Config, training_steps: int, cpu: bool = False) -> PPOConfig:
    """EasyR1's configuration of this run. Raises ConfigError for what cannot run on EasyR1."""
    check(config)
    run = with_absolute_paths(config)
    ppo = PPOConfig(
        # EasyR1's loaders, rewards and loggers stay unused: what they would be told is left out.
        data=fill(
            PPOConfig().data, config.data, skip={"image_dir", "format_prompt", "override_chat_template"}
        ),
        algorithm=fill(PPOConfig().algorithm, config.algorithm),
        trainer=fill(PPOConfig().trainer, config.trainer, skip={"load_checkpoint_path"}),
        worker=fill(GMPOWorkerConfig(), run.worker, skip={"reward", "critic", "run", "cpu"}),
    )
    ppo.algorithm.adv_estimator = "grpo"
    ppo.trainer.max_steps = training_steps
    actor, rollout = ppo.worker.actor, ppo.worker.rollout
    # The learning rate is ours (engines/policy.py): it changes once a step and warms up from the first one.
    actor.optim.lr_scheduler_type, actor.optim.lr_warmup_steps = "constant", 0
    # A mini-batch of ours need not be a multiple of a micro-batch, and FSDP's forward is not EasyR1's.
    if easyr1_loss(config) is None:
        actor.loss_type, actor.padding_free, actor.use_torch_compile = "default", False, False
        actor.micro_batch_size_per_device_for_update = 1
        actor.micro_batch_size_per_device_for_experience = 1
    else:
        actor.loss_type = str(easyr1_loss(config))
    rollout.n = config.worker.rollout.n
    if cpu:
        actor.fsdp.enable_rank0_init = ppo.worker.ref.fsdp.enable_rank0_init = False
        actor.padding_free = actor.use_torch_compile = False
    assert isinstance(ppo.worker, GMPOWorkerConfig)
    ppo.worker.run, ppo.worker.cpu = run, cpu
    ppo.deep_post_init()
    return ppo


def with_absolute_paths(config: Config) -> Config:
    """A copy for processes that may run on another machine, in another folder."""
    copy = deepcopy(config)
    model, data, reward = copy.worker.actor.model, copy.data, copy.worker.reward
    for section, key in ((model, "model_path"), (model, "tokenizer_path"), (data, "override_chat_template")):
        path = getattr(section, key)
        if path is not None and Path(installed(path)).exists():
            setattr(section, key, str(Path(installed(path)).absolute()))
    for section, key in ((reward, "reward_function"), (copy.worker.actor, "loss_type")):
        path, colon, function = str(getattr(section, key)).partition(":")
        if Path(path).is_file():
            setattr(section, key, f"{Path(path).absolute()}{colon}{function}")
    return copy


def fill(target: T, source: Any, skip: Iterable[str] = ()) -> T:
    """`target`, one of EasyR1's dataclasses, with its fields taken from ours of the same names.

    A None of ours leaves EasyR1's default where EasyR1 has no None there (the clips).
    """
    hints = get_type_hints(type(target))
    for item in fields(target):  # type: ignore[arg-type]
        if not item.init or item.name in skip:
            continue
        value = getattr(source, item.name)
        if is_dataclass(value):
            fill(getattr(target, item.name), value)
        elif value is not None or type(None) in getattr(hints[item.name], "__args__", ()):
            setattr(target, item.name, value)
        else:
            assert item.default is not MISSING
    return target
