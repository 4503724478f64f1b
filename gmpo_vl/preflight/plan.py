"""What a run will do, in numbers, before it does it (`gmpo-vl train --dry-run`)."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from gmpo_vl.config import Config, ConfigError, doubts, notices
from gmpo_vl.data.rows import RowError
from gmpo_vl.engines.easyr1 import limits as easyr1
from gmpo_vl.engines.easyr1.compatibility import find_easyr1, require_easyr1
from gmpo_vl.engines.going_on import goes_on
from gmpo_vl.engines.loggers import check_loggers
from gmpo_vl.engines.look_probe import look_probe
from gmpo_vl.engines.losses import objective_settings
from gmpo_vl.environments.loading import EnvironmentMaker
from gmpo_vl.models.loading import model_folder
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.policy.corrections import Rejection, rejections
from gmpo_vl.policy.objectives import OBJECTIVE_KEYS, OBJECTIVES, resolve_settings
from gmpo_vl.preflight.machine_check import RUN_KEY, existing_folder, run_folder
from gmpo_vl.preflight.model_check import check_weights
from gmpo_vl.preflight.picture_check import whole_patches
from gmpo_vl.preflight.reward_check import REWARD_KEY, check_reward
from gmpo_vl.rewards.agreement import form_that_earns, parts_as_asked, rows_to_try, worth_as_asked, written
from gmpo_vl.rollout.episodes import first_turns
from gmpo_vl.setup import (
    check_agreement,
    check_masking,
    check_router,
    check_tower,
    configured_model,
    ends_of,
    load_configured_environment,
    load_configured_processor,
    load_configured_reward,
    load_own_objective,
    load_split,
    named_parts,
    shared_rows,
    total_steps,
    unknown_parts,
    validation_sampling_of,
)
from gmpo_vl.sizing.budget import with_fitting_tokens
from gmpo_vl.sizing.limits import limits_of
from gmpo_vl.sizing.parameters import check_adapters, model_size

TURN_LINES = 12  # of a first turn, that are shown


def dry_run(config: Config) -> str:
    """Read data, tokenizer, template and reward as the run would, and headers of weights; say what would
    happen.

    Raises what the run would raise before its first step, as far as it can be known without loading weights.
    Needs neither a GPU nor EasyR1; without EasyR1 the plan says what it could not ask.
    """
    if config.engine != "easyr1":
        return _plan(config)
    easyr1.check(config)
    easyr1.check_model(config, configured_model(config))
    return "\n".join([_plan(config), *_split(config), *easyr1.without_use(config), _as_easyr1_takes(config)])


def _plan(config: Config) -> str:
    model = config.worker.actor.model
    # The class exists, takes the overrides, and has what is to be frozen.
    folder = model_folder(str(model.model_path))
    size = model_size(folder, **model.override_config)
    check_tower(config, size.config.model_type, size.towers)
    check_adapters(config, size)
    check_router(config)
    for finding in check_weights(folder, size):
        if finding.level == "error":
            raise ValueError(f"{finding.where}: {finding.what}; {finding.change}")
    try:
        existing_folder(run_folder(config).absolute())
    except OSError as error:
        raise type(error)(f"{RUN_KEY}: {error}") from error
    processor = load_configured_processor(config)
    ends_of(config, processor)
    data, make = config.data, load_configured_environment(config)
    try:
        prompts = load_split(config, data.train_files, processor, make)
        check_masking(config, prompts)
        validation = load_split(config, data.val_files, processor, make) if data.val_files else None
        tried = (
            _try_reward(config, prompts, validation) if make is None else _first_turn(config, prompts, make)
        )
    finally:
        if make is not None:
            make.close()
    look = look_probe(config, prompts, validation)
    rows = "data.train_files" if validation is None else "data.val_files"
    asked = f"{len(look.pairs):,} questions of {rows}" if look is not None else ""
    begun = goes_on(config, lambda: prompts)
    lines = [describe(config, prompts, validation), *(f"            {line}" for line in begun)]
    lines += [*notices(config), *measurements(config, asked), *tried]
    if config.algorithm.papo.kl_prcp_coef and (problem := _whole_patches(config, prompts)):
        lines.append(f"WARNING: algorithm.papo.patch_size: {problem}")
    warned = [*doubts(config), *shared_rows(config), *check_loggers(config)]
    lines += [f"WARNING: {line}" for line in warned]
    for name, split in (("train", prompts), ("validation", validation)):
        if split is not None and len(split.examples.faults):
            lines.append(f"{name}: {split.examples.faults.summary()}")
    return "\n".join(lines)


def _whole_patches(config: Config, prompts: PromptSet) -> str | None:
    pictured = [i for i, length in enumerate(prompts.picture_lengths) if length > 0]
    return whole_patches(config, prompts.encode([pictured[i] for i in rows_to_try(len(pictured))]))


def _try_reward(config: Config, prompts: PromptSet, validation: PromptSet | None) -> list[str]:
    """Call the reward, as the run will. Raises ConfigError where prompt and reward cannot go together."""
    reward = load_configured_reward(config)
    if reward.asks_endpoint:
        return ["reward      not called: it asks an endpoint"]
    lines = []
    row, asked = prompts.examples[0], prompts.text(0)
    form = form_that_earns(asked, [row], reward)
    how = "as the prompt asks for it" if form == asked else f"written as {written(form, 'ANSWER')}"
    for right, wrong in worth_as_asked(form, [row], reward):
        said = f"{right:g} for the right answer {how}, {wrong:g} for a wrong one"
        lines.append(f"reward      {said} (row {row.id})")
    guesses: dict[str, list[str]] = {}
    for key, split in (("data.train_files", prompts), ("data.val_files", validation)):
        if split is not None and (guess := check_agreement(key, split, reward)):
            guesses.setdefault(guess.removeprefix(f"{key}: "), []).append(key)
    lines += [f"            {', '.join(keys)}: {guess}" for guess, keys in guesses.items()]
    rows = [prompts.examples[i] for i in rows_to_try(len(prompts))]
    lines += [
        f"WARNING: {REWARD_KEY}: {found.what}; {found.change}"
        for found in check_reward(reward, rows)
        if found.level == "error"
    ]
    if named_parts(config.algorithm):
        parts = parts_as_asked(prompts.text(0), [row], reward)
        if parts and (problem := unknown_parts(config.algorithm, parts)):
            lines.append(f"WARNING: {problem}; a right and a wrong answer to row {row.id} were tried")
    return lines


def _first_turn(config: Config, prompts: PromptSet, make: EnvironmentMaker) -> list[str]:
    """What the first row's game shows first. No game is played: that needs the model."""
    row = prompts.examples[0]
    (turn,) = first_turns(make, [row], config.worker.rollout.seed)
    if isinstance(turn, RowError):
        raise ConfigError(
            f"environment.name: the game of {row.id} was begun a second time, and broke: {turn}"
        )
    said = f"{prompts.lengths[0]:,} tokens, {prompts.picture_lengths[0]:,} of them of pictures (row {row.id})"
    return [
        f"first turn  {said}",
        *(f"            {line}" for line in turn.problem.splitlines()[:TURN_LINES]),
    ]


def _games(config: Config) -> list[str]:
    """What is played, and what cannot be known of it."""
    of, algorithm = config.environment, config.algorithm
    template = "its own template" if of.template is None else f"template {of.template}"
    apart = {None: "isolated where it says so", True: "isolated", False: "in this process"}[of.isolate]
    settings = f" ({_shown(of.settings)})" if of.settings else ""
    return [
        f"environment {of.name}{settings}, up to {of.max_turns:,} turns, {of.history_length} earlier ones "
        f"shown, {template}, {apart}",
        f"            weight of each {algorithm.episode_weight}, baseline over {algorithm.episode_baseline}, "
        f"penalties {algorithm.turn_penalty} normalising",
        "            how many turns games take, and how long later prompts are, is not known before",
    ]


def describe(config: Config, prompts: PromptSet, validation: PromptSet | None) -> str:
    """The plan as lines for a person."""
    data, actor, rollout = config.data, config.worker.actor, config.worker.rollout
    steps = total_steps(config, len(prompts))
    fitted = with_fitting_tokens(config, prompts)
    limits = limits_of(fitted.config, "shared", actor.micro_batch_size_per_device_for_update)
    forward = f"{limits.max_tokens:,} tokens" if limits.max_tokens else f"{limits.max_rows} rollouts"
    updates = actor.ppo_epochs * -(-data.rollout_batch_size // actor.global_batch_size)
    rollouts = data.rollout_batch_size * rollout.n
    plays = config.environment.name is not None
    prompt_tokens = sum(prompts.lengths) / len(prompts)
    longest = data.max_prompt_length if plays else max(prompts.lengths)
    turns = config.environment.max_turns if plays else 1
    worst = rollouts * turns * (longest + data.max_response_length)
    rows, what = ("games", "episodes") if plays else ("prompts", "rollouts")
    lines = [
        f"model       {actor.model.model_path}",
        *describe_method(config),
        f"train       {len(prompts):,} {rows}{_pictures(prompts, plays)} from {data.train_files}",
        f"            {'first turns' if plays else 'prompts'} of {prompt_tokens:.0f} tokens on average, "
        f"{max(prompts.lengths):,} at most (limit {data.max_prompt_length:,})",
        f"validation  {len(validation):,} {rows} from {data.val_files}" if validation else "validation  none",
        f"steps       {steps:,} ({steps * data.rollout_batch_size / len(prompts):.1f} passes over the data)",
        *(_games(config) if plays else []),
        f"a step      {data.rollout_batch_size:,} {rows} x {rollout.n} = {rollouts:,} {what}, "
        f"{updates:,} updates of {actor.global_batch_size:,} {rows} "
        f"({actor.global_batch_size * rollout.n:,} {what})",
        f"            at most {worst:,} tokens in prompts and responses; up to {forward} a forward",
        *(f"            {reason}" for reason in fitted.reasons),
        f"run         {config.trainer.save_checkpoint_path or 'runs/' + config.trainer.experiment_name}",
    ]
    return "\n".join(lines)


def _pictures(prompts: PromptSet, plays: bool) -> str:
    """What prompts show of pictures: of games the first turns, whatever their rows have."""
    if plays:
        return f", of whose first turns {sum(map(bool, prompts.picture_lengths)):,} show pictures,"
    return f" with {sum(len(example.images) for example in prompts.examples):,} pictures"


def describe_method(config: Config) -> list[str]:
    """What is optimised and how: where two runs are to differ in one thing, these lines do."""
    actor, algorithm, rollout = config.worker.actor, config.algorithm, config.worker.rollout
    kl = f"KL to the start x {algorithm.kl_coef:g} ({algorithm.kl_penalty})"
    weights, arithmetic = actor.fsdp.torch_dtype or "fp32", actor.fsdp.mp_param_dtype
    trained = f"LoRA of rank {actor.model.lora.rank}" if actor.model.lora.rank else "all weights"
    if actor.model.freeze_vision_tower:
        trained += " but the ViT's"
    validation, environment = validation_sampling_of(config), config.environment.name
    lines = [
        f"objective   {actor.loss_type} ({_shown(_settings(config))}), advantages {algorithm.adv_estimator}, "
        + ("no KL" if algorithm.disable_kl else kl),
        f"training    {trained} in {weights}, arithmetic in {arithmetic}; {actor.optim.strategy}, lr "
        f"{actor.optim.lr:g} "
        f"{actor.optim.lr_scheduler_type}, weight_decay {actor.optim.weight_decay:g}",
        f"sampling    temperature {rollout.temperature:g}, top_p {rollout.top_p:g}; validation "
        f"{validation.n} a prompt at "
        f"temperature {validation.temperature:g}, top_p {validation.top_p:g}; "
        + (f"games of {environment}" if environment else f"reward {config.worker.reward.reward_function}"),
    ]
    if algorithm.reward_weights:
        lines.append(f"            of the reward's parts: {_shown(algorithm.reward_weights)}")
    lines += [f"            {line}" for line in switched_on(config)]
    if algorithm.overlong_responses != "score":
        lines.append(f"            overlong_responses {algorithm.overlong_responses}")
    if algorithm.online_filtering:
        batches = config.trainer.max_try_make_batch
        lines.append(
            f"            groups with a mean {algorithm.filter_key} within ({algorithm.filter_low:g}, "
            f"{algorithm.filter_high:g}) are "
            f"kept, from {'any number of' if batches == -1 else f'up to {batches}'} batches of "
            f"{config.data.mini_rollout_batch_size or config.data.rollout_batch_size:,} prompts"
        )
    return lines


def switched_on(config: Config) -> list[str]:
    """What changes the update or its samples and is off by default, a line each."""
    algorithm, rollout = config.algorithm, config.worker.rollout
    lines = []
    if rollout.top_k != -1:
        lines.append(f"top_k {rollout.top_k}: tokens are drawn from the {rollout.top_k:,} likeliest")
    if algorithm.papo.kl_prcp_coef:
        lines.append(f"PAPO: {_shown(asdict(algorithm.papo))}")
    if config.worker.actor.old_log_probs == "rollout":
        lines.append("old_log_probs rollout: the sampler's log-probs stand for the old policy's")
    wanted, parts = algorithm.rollout_correction, []
    if wanted.rollout_is is not None:
        limit = wanted.rollout_is_threshold
        most = f"of at most {limit:g}" if math.isfinite(limit) else "without a limit"
        parts.append(f"{wanted.rollout_is} weights {most}")
    if wanted.rollout_rs is not None:
        parts += [_accepted(one) for one in rejections(wanted.rollout_rs, wanted.rollout_rs_threshold)]
    return [*lines, f"rollout_correction: {'; '.join(parts)}"] if parts else lines


def _accepted(option: Rejection) -> str:
    """In the unit of rollout_rs_threshold: YAML may have read another number than was meant."""
    if option.name.endswith("k1"):
        return f"{option.name} accepts ratios of {math.exp(option.low):.5g} to {math.exp(option.high):.5g}"
    return f"{option.name} accepts {option.high:g} nats at most"


def measurements(config: Config, questions: str) -> list[str]:
    """What is measured now and then and is off by default, a line each. questions: that a look asks."""
    trainer, lines = config.trainer, []
    if trainer.val_only:
        return []
    if trainer.grad_noise_freq != -1:
        lines.append(f"grad_noise  every {trainer.grad_noise_freq:,} steps, in two halves of each update")
    if trainer.look_freq != -1:
        lines.append(f"look        every {trainer.look_freq:,} steps, on {questions}")
    return lines


def _settings(config: Config) -> dict[str, Any]:
    """The objective's options: all of ours; of a user's file all; of EasyR1's what was written, the others
    are its own.
    """
    actor, own = config.worker.actor, load_own_objective(config)
    if own is not None:
        return own.settings
    if actor.loss_type in OBJECTIVES:
        return dict(resolve_settings(actor.loss_type, objective_settings(config)))
    written = {key: getattr(actor, key) for key in OBJECTIVE_KEYS if f"worker.actor.{key}" in config.written}
    return {key: value for key, value in sorted(written.items()) if value is not None}


def _shown(settings: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in settings.items()
    )


def _split(config: Config) -> list[str]:
    """GPUs, vLLM engines, and each GPU's share of an update."""
    actor, rollout, trainer = config.worker.actor, config.worker.rollout, config.trainer
    gpus = trainer.nnodes * trainer.n_gpus_per_node
    prompts = actor.global_batch_size // gpus
    return [
        f"GPUs        {gpus} ({trainer.nnodes} x {trainer.n_gpus_per_node}); vLLM engines: "
        f"{gpus // rollout.tensor_parallel_size} x {rollout.tensor_parallel_size}",
        f"a GPU       {prompts:,} prompts ({prompts * rollout.n:,} rollouts) of an update",
    ]


def _as_easyr1_takes(config: Config) -> str:
    """Fill EasyR1's dataclasses with the settings, as the run will. Raises ConfigError where one fails."""
    if find_easyr1() is None:
        return "EasyR1      not installed here: its own configuration classes were not asked"
    home = require_easyr1()
    try:
        from gmpo_vl.engines.easyr1.config import to_easyr1  # imports EasyR1
    except ImportError as error:
        return f"EasyR1      {home}; its configuration classes could not be asked: {error}"
    try:
        to_easyr1(config, training_steps=1)
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"EasyR1's configuration classes do not take these settings: {error}") from error
    return f"EasyR1      {home}; its configuration classes take these settings"
