"""From a configuration to what every engine works with: processor, prompts, reward, sampling."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.config.schema import AlgorithmConfig, ModelConfig
from gmpo_vl.data.examples import open_checked
from gmpo_vl.data.rows import RowError
from gmpo_vl.environments.loading import EnvironmentMaker, load_environment
from gmpo_vl.models.geometry import VISION_LINEARS, in_towers
from gmpo_vl.models.loading import eos_ids, model_config, model_folder, read_generation_config
from gmpo_vl.models.processing import Processor, load_processor
from gmpo_vl.models.prompts import PromptSet, load_prompts, prompt_settings
from gmpo_vl.models.routers import router_obstacle
from gmpo_vl.policy.objectives import is_own
from gmpo_vl.policy.own import OwnObjective, load_objective
from gmpo_vl.progress import phase_bar
from gmpo_vl.rewards.about import known_parts
from gmpo_vl.rewards.agreement import disagreement, rows_to_try
from gmpo_vl.rewards.loading import Reward, load_reward
from gmpo_vl.rollout.episodes import Games, first_turns
from gmpo_vl.storage.manifest import same_file
from gmpo_vl.storage.names import nearest
from gmpo_vl.types import Example, Sampling

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_configured_processor(config: Config) -> Processor:
    """Tokenizer, template and image processor of the model that the run starts from."""
    model = config.worker.actor.model
    folder = model_folder(str(model.tokenizer_path or model.model_path))
    return load_processor(folder, config.data.override_chat_template)


def check_router(config: Config) -> None:
    """Raise ConfigError for a mixture of experts whose router would not learn (models/moe.py says why)."""
    obstacle = router_obstacle(configured_model(config))
    if obstacle is not None:
        raise ConfigError(
            f"worker.actor.model.model_path {config.worker.actor.model.model_path}: {obstacle}, or "
            "worker.actor.model.override_config: {norm_topk_prob: false} here"
        )


def configured_model(config: Config) -> Any:
    """transformers' configuration of the model that the run starts from, with the run's own values."""
    model = config.worker.actor.model
    return model_config(model_folder(str(model.model_path)), **model.override_config)


def ends_of(config: Config, processor: Processor) -> tuple[int, ...]:
    """Ids of the tokens that end a response; none under `ignore_eos`. Raises ValueError where the model names
    none."""
    if config.worker.rollout.ignore_eos:
        return ()
    folder = model_folder(str(config.worker.actor.model.model_path))
    return eos_ids(read_generation_config(folder, configured_model(config)), processor.tokenizer)


def check_tower(config: Config, kind: str, towers: Collection[str]) -> None:
    """Raise ConfigError where the ViT is to be frozen and none is found. kind: of model; towers: its ViTs."""
    if config.worker.actor.model.freeze_vision_tower and not towers:
        raise ConfigError(
            f"worker.actor.model.freeze_vision_tower: no ViT is found in a {kind!r}; write false"
        )


def lora_config(model: ModelConfig, towers: Collection[str]) -> Any:
    """peft's. towers: names of the ViTs, which get no adapters where they are frozen: they would train it."""
    from peft import LoraConfig

    lora, excluded = model.lora, model.lora.exclude_modules
    if model.freeze_vision_tower:
        tower = in_towers(towers)
        excluded = tower if excluded is None else f"(?:{excluded})|{tower}"
    targets = [name.strip() for name in lora.target_modules.split(",")]
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        # peft reads a string as `all-linear` or a pattern of whole names, a list as names' ends.
        target_modules=targets if len(targets) > 1 or targets[0].isidentifier() else targets[0],
        exclude_modules=excluded,
        task_type="CAUSAL_LM",
    )


def vision_is_frozen(config: Config) -> bool:
    """Does nothing in the ViT train? So it is under LoRA, too, where adapters leave the ViT out."""
    model = config.worker.actor.model
    return model.freeze_vision_tower or (
        model.lora.rank > 0 and leaves_vision_out(model.lora.exclude_modules)
    )


def leaves_vision_out(exclude_modules: str | None) -> bool:
    """Does `lora.exclude_modules`, a pattern of whole names, match everything in a ViT?"""
    return exclude_modules is not None and all(re.fullmatch(exclude_modules, name) for name in VISION_LINEARS)


def load_configured_reward(config: Config) -> Reward:
    """Raises ConfigError where `algorithm.reward_weights` or `filter_key` names a part that a built-in reward
    does not have; of a file of one's own, or of one that asks an endpoint, the first scored responses tell.
    """
    settings = config.worker.reward
    reward = load_reward(str(settings.reward_function), settings.reward_function_kwargs)
    parts = known_parts(reward) if named_parts(config.algorithm) else None
    if parts is not None and (problem := unknown_parts(config.algorithm, parts)):
        raise ConfigError(problem)
    return reward


def named_parts(algorithm: AlgorithmConfig) -> list[tuple[str, str]]:
    """(key, the part of scores that it names). `filter_key: accuracy` takes any score: without that part it
    is the whole score.
    """
    named = [("algorithm.reward_weights", part) for part in algorithm.reward_weights or ()]
    if algorithm.online_filtering and algorithm.filter_key != "accuracy":
        named.append(("algorithm.filter_key", algorithm.filter_key))
    return named


def load_configured_environment(config: Config) -> EnvironmentMaker | None:
    """What makes a row's game; None for a run without an environment. Raises what `load_environment` does."""
    of = config.environment
    if of.name is None:
        return None
    return load_environment(of.name, of.settings, of.template, of.isolate)


def games_of(config: Config, make: EnvironmentMaker, prompts: PromptSet) -> Games:
    """How a run plays. prompts: of any of its splits."""
    of = config.environment
    return Games(make, prompts.encoded, of.max_turns, of.history_length, config.data.max_prompt_length)


def unknown_parts(algorithm: AlgorithmConfig, parts: Collection[str]) -> str | None:
    """What is wrong where a key names a part that is not among those of the scores, or None."""
    shaped = {"overlong"} if algorithm.overlong_responses == "soft" else set()
    known = [part for part in dict.fromkeys([*parts, *sorted(shaped)]) if part != "unscored"]
    for key, part in named_parts(algorithm):
        if part not in known:
            near = nearest(part, known, cutoff=0.5)
            return f"{key}: no score has a part {part!r}{near} (parts: {', '.join(known)})"
    return None


def check_masking(config: Config, prompts: PromptSet) -> None:
    """Raise ConfigError where PAPO has no picture to mask. prompts: of the training split."""
    if config.algorithm.papo.kl_prcp_coef and not any(prompts.picture_lengths):
        raise ConfigError(
            "algorithm.papo.kl_prcp_coef: no row of data.train_files has a picture that could be masked; "
            "write 0"
        )


def check_agreement(key: str, prompts: PromptSet, reward: Reward) -> str | None:
    """Raise ConfigError where no answer as the prompts ask for it can earn the reward (rewards/agreement.py).

    key: the one that names the files. Returns what is worth a warning. Raises what the reward raises.
    """
    rows = rows_to_try(len(prompts))
    found = disagreement([(prompts.text(i), prompts.examples[i]) for i in rows], reward)
    if found is not None and found.certain:
        raise ConfigError(f"{key}: {found.said}")
    return None if found is None else f"{key}: {found.said}"


def load_own_objective(config: Config) -> OwnObjective | None:
    """The user's objective, checked; None where the run trains one of ours or of EasyR1's."""
    actor = config.worker.actor
    return load_objective(actor.loss_type, actor.loss_options) if is_own(actor.loss_type) else None


def shared_rows(config: Config) -> list[str]:
    """A line to warn with where the rows of validation are those of training."""
    train, validation = config.data.train_files, config.data.val_files
    if not train or not validation or not same_file(Path(train), Path(validation)):
        return []
    return [
        f"data.val_files is {validation}, which is data.train_files too, or a copy: validation says how well "
        "the model knows what it was trained on, not how well it answers others"
    ]


def check_sources(config: Config) -> None:
    """Raise DataError for a source of rows that cannot be opened or has other columns, and what
    `load_environment` does. No row is looked at."""
    data = config.data
    columns = prompt_settings(data).columns
    for files in filter(None, (data.train_files, data.val_files)):
        open_checked(files, columns)
    if (make := load_configured_environment(config)) is not None:
        make.close()


def load_split(
    config: Config, files: str, processor: Processor, make: EnvironmentMaker | None = None
) -> PromptSet:
    """The prompts of `data.train_files` or `data.val_files`, as the data section says.

    make: of a run with an environment. The first turn of every row's game is then made, so that a game that
    is broken, or too long, is a bad row before the run begins.
    """
    settings = prompt_settings(config.data)
    if make is None:
        return load_prompts(files, settings, processor)

    def shown(rows: Sequence[Example]) -> Iterator[Example | RowError]:
        with phase_bar(f"first turns of {files}", len(rows)) as advance:
            for turn in first_turns(make, rows, config.worker.rollout.seed):
                advance(1)
                yield turn

    return load_prompts(files, settings, processor, shown)


def sampling_of(config: Config) -> Sampling:
    """How training rollouts are drawn."""
    rollout = config.worker.rollout
    return Sampling(
        n=rollout.n,
        max_tokens=config.data.max_response_length,
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        top_k=rollout.top_k,
        seed=rollout.seed,
        with_entropy=config.worker.actor.old_log_probs == "rollout",
    )


def validation_sampling_of(config: Config) -> Sampling:
    """How validation samples are drawn: as in training, once, but for what `val_override_config` says."""
    override = {"n": 1, **config.worker.rollout.val_override_config}
    return replace(sampling_of(config), with_entropy=False, **override)


def total_steps(config: Config, num_prompts: int) -> int:
    """`max_steps`, or as many whole batches as `total_epochs` passes over the data hold."""
    if config.trainer.max_steps is not None:
        return config.trainer.max_steps
    steps = config.trainer.total_epochs * num_prompts // config.data.rollout_batch_size
    if steps == 0:
        raise ValueError(
            f"data.rollout_batch_size {config.data.rollout_batch_size} is more than "
            f"{config.trainer.total_epochs} epochs of {num_prompts} prompts: not one step; lower it, or set "
            "trainer.max_steps"
        )
    return steps
