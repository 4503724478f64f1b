"""What a run refuses, and what it only mentions.

Three kinds of keys, by engine: those it supports; *placement* keys, which say where and how fast a run
computes and change no mathematics (named once in one line where the engine has no use for them); and keys
that change the mathematics but that the engine does not support. These are refused, with the fix, when
somebody wrote them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gmpo_vl.config.schema import KL_KINDS, Config, all_keys, value_of
from gmpo_vl.policy.objectives import OBJECTIVE_KEYS, OBJECTIVES, is_own, resolve_settings
from gmpo_vl.storage.files import can_be_a_path, names_a_folder
from gmpo_vl.storage.names import nearest

_PLACEMENT_ON_LOCAL = (
    "data.filter_overlong_prompts_workers",
    "worker.hybrid_engine",
    "worker.actor.strategy",
    "worker.actor.padding_free",
    "worker.actor.ulysses_size",
    "worker.actor.use_torch_compile",
    "worker.actor.fsdp.*",
    "worker.actor.offload.*",
    "worker.ref.*",
    "worker.rollout.name",
    "worker.rollout.dtype",
    "worker.rollout.limit_images",
    "worker.rollout.gpu_memory_utilization",
    "worker.rollout.enforce_eager",
    "worker.rollout.enable_chunked_prefill",
    "worker.rollout.tensor_parallel_size",
    "worker.rollout.max_model_len",
    "worker.rollout.max_num_batched_tokens",
    "worker.rollout.disable_*",
    "worker.reward.num_cpus",
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
    "trainer.ray_timeline",
)
# Of parts that engine local does not have; without the part, the key means nothing on either engine.
_NO_SUCH_PART_ON_LOCAL = {
    "videos": ("data.video_key", "data.video_fps"),
    "critic": ("worker.critic",),
}

_EASYR1_LOSSES = ("default", "gspo", "gspo_token", "cispo", "sapo")

DTYPE_KEYS = ("worker.actor.fsdp.torch_dtype", "worker.actor.fsdp.mp_param_dtype")

# Keys that change the mathematics, and of which an engine supports some values only; a key absent here is
# supported as it is. {key: (the values that it supports, why not the others)}
_Supported = Mapping[str, tuple[tuple[Any, ...], str]]

_BY_BOTH: _Supported = {
    "algorithm.adv_estimator": (("grpo", "grpo_no_std"), "it has group advantages only"),
    "algorithm.gamma": ((1.0,), "a discount belongs to adv_estimator gae; remove it"),
    "algorithm.lam": ((1.0,), "lambda belongs to adv_estimator gae; remove it"),
    "algorithm.kl_penalty": (KL_KINDS, "`full` needs the logits of the reference"),
    "algorithm.kl_type": (("fixed",), "the adaptive controller belongs to KL in the reward; write fixed"),
    "algorithm.kl_horizon": ((10000.0,), "it belongs to kl_type adaptive; remove it"),
    "algorithm.kl_target": ((0.1,), "it belongs to kl_type adaptive; remove it"),
    "worker.actor.model.trust_remote_code": ((False,), "it runs no code from a model's folder; remove it"),
    "worker.actor.fsdp.torch_dtype": (
        (None, "fp32", "bf16"),
        "gradients in fp16 need a scale that it does not keep; write fp32",
    ),
    "worker.actor.fsdp.mp_param_dtype": (
        ("fp32", "bf16"),
        "gradients in fp16 need a scale that it does not keep; write bf16",
    ),
    "worker.reward.skip_special_tokens": (
        (True,),
        "a reward reads the text without special tokens; remove it",
    ),
    "trainer.critic_warmup": ((0,), "it has no critic, so the policy would only wait; remove it"),
    "trainer.logger": (
        ("console", "file", "tensorboard", "wandb"),
        "these four are what is written, beside the run's own files",
    ),
}
SUPPORTED: Mapping[str, _Supported] = {
    "local": {
        **_BY_BOTH,
        "worker.actor.optim.strategy": (
            ("adamw",),
            "write adamw; where memory is short, worker.actor.model.lora.rank",
        ),
        "worker.rollout.ignore_eos": ((False,), "a response ends at its end-of-sequence token; remove it"),
    },
    "easyr1": {
        **_BY_BOTH,
        "worker.hybrid_engine": ((True,), "EasyR1 has no other; remove it"),
        "worker.actor.strategy": (("fsdp",), "EasyR1 has no other; remove it"),
        "worker.rollout.name": (("vllm",), "EasyR1 has no other; remove it"),
        "worker.rollout.dtype": (("bf16", "fp16", "fp32"), "write one of bf16, fp16, fp32"),
    },
}


def notices(config: Config) -> list[str]:
    """What somebody wrote that runs, but not as they may think; a line each."""
    lines = _placement_notices(config) if config.engine == "local" else []
    if config.algorithm.use_kl_loss and config.algorithm.kl_penalty in ("kl", "k1"):
        lines.append(
            "algorithm.kl_penalty kl (k1) as a loss has a gradient of mean 0: it adds noise and holds the "
            "policy nowhere; "
            "low_var_kl does"
        )
    actor = config.worker.actor
    # Engine local leaves adapters in fp32, EasyR1 casts them too; its adamw_bf16 carries what rounding drops.
    kept = actor.model.lora.rank > 0 if config.engine == "local" else actor.optim.strategy == "adamw_bf16"
    if actor.fsdp.torch_dtype == "bf16" and not kept:
        lines.append(
            "worker.actor.fsdp.torch_dtype bf16 keeps the weights themselves in bf16: steps of a small lr "
            "are rounded away; "
            + (
                "fp32 or LoRA train"
                if config.engine == "local"
                else "fp32 or optim.strategy adamw_bf16 train"
            )
        )
    return lines


def _placement_notices(config: Config) -> list[str]:
    """Written keys that change no mathematics and that engine local has no use for."""
    placement = _matching(config.written, _PLACEMENT_ON_LOCAL, but=DTYPE_KEYS)
    lines = [f"placement keys, without use on engine local: {', '.join(placement)}"] if placement else []
    for part, patterns in _NO_SUCH_PART_ON_LOCAL.items():
        keys = _matching(config.written, patterns)
        lines += [f"engine local has no {part}, so without use: {', '.join(keys)}"] if keys else []
    return lines


def check(config: Config, origin: Mapping[str, str]) -> list[str]:
    """All that is wrong with a config, one message each. `origin`: where each written key was written."""

    def say(key: str) -> str:
        text = json.dumps(value_of(config, key), ensure_ascii=False, default=repr)
        text = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)
        return f"{key} is {text if len(text) <= 200 else text[:200] + '...'} ({origin.get(key, 'default')})"

    problems = list(_choice_problems(config, say))
    if not problems:
        problems += _refusals(config, say)
    problems += _range_problems(config, say)
    others = (_batch_problems, _length_problems, _kl_problems, _loss_problems, _path_problems, _rest_problems)
    for cross_check in others:
        problems += cross_check(config, say)
    return problems


Say = Callable[[str], str]


def _choice_problems(config: Config, say: Say) -> Iterable[str]:
    for key, known in all_keys().items():
        value = value_of(config, key)
        for name in value if isinstance(value, list) else [value]:
            if known.choices and name is not None and name not in known.choices:
                only = f"only {', '.join(known.choices)}{nearest(name, known.choices)}"
                yield f"{say(key)}: there is no {name!r}, {only}"


def _refusals(config: Config, say: Say) -> Iterable[str]:
    for key, (supported, why) in SUPPORTED[config.engine].items():
        value = value_of(config, key)
        values = value if isinstance(value, list) else [value]
        if key in config.written and not all(v in supported for v in values):
            yield f"{say(key)}: engine {config.engine} does not support this: {why}"


def _range_problems(config: Config, say: Say) -> Iterable[str]:
    for key, known in all_keys().items():
        value = value_of(config, key)
        if known.rule is not None and value is not None and not known.rule[0](value):
            yield f"{say(key)}: it {known.rule[1]}"


def _batch_problems(config: Config, say: Say) -> Iterable[str]:
    prompts, update = config.data.rollout_batch_size, config.worker.actor.global_batch_size
    if prompts > 0 and update > 0 and prompts % update:
        rows, batch = say("data.rollout_batch_size"), say("worker.actor.global_batch_size")
        yield f"{rows}, {batch}: both count prompts, and the first must be a multiple of the second"
    needs_group = config.algorithm.adv_estimator in ("grpo", "grpo_no_std", "rloo")
    if needs_group and config.worker.rollout.n == 1 and not config.trainer.val_only:
        yield (
            f"{say('worker.rollout.n')}: a group advantage compares at least 2 responses to one prompt (the "
            "paper: 8)"
        )


def _length_problems(config: Config, say: Say) -> Iterable[str]:
    data, algorithm = config.data, config.algorithm
    if data.min_pixels is not None and data.max_pixels is not None and data.min_pixels > data.max_pixels:
        yield f"{say('data.min_pixels')}, {say('data.max_pixels')}: the first is larger than the second"
    if algorithm.overlong_responses == "soft":
        if algorithm.overlong_buffer is None:
            yield f"{say('algorithm.overlong_responses')}: it needs algorithm.overlong_buffer (tokens)"
        elif algorithm.overlong_buffer > data.max_response_length:
            yield f"{say('algorithm.overlong_buffer')}: longer than {say('data.max_response_length')}"
        return
    for key in ("algorithm.overlong_buffer", "algorithm.overlong_penalty"):
        if key in config.written:
            yield (
                f"{say(key)}: only algorithm.overlong_responses: soft uses it, "
                f"{say('algorithm.overlong_responses')}"
            )


def _kl_problems(config: Config, say: Say) -> Iterable[str]:
    algorithm = config.algorithm
    if algorithm.use_kl_loss and algorithm.disable_kl and "algorithm.disable_kl" not in config.written:
        yield (
            f"{say('algorithm.use_kl_loss')}: write algorithm.disable_kl: false with it, or the reference "
            "stays off"
        )
    if not algorithm.disable_kl and not algorithm.use_kl_loss:
        yield (
            f"{say('algorithm.disable_kl')}, {say('algorithm.use_kl_loss')}: this puts the KL term into the "
            "reward, "
            "which group advantages cannot see; write algorithm.disable_kl: true (as the paper) or "
            "algorithm.use_kl_loss: true"
        )


def _loss_problems(config: Config, say: Say) -> Iterable[str]:
    actor, loss_type = config.worker.actor, config.worker.actor.loss_type
    own = is_own(loss_type)
    if actor.loss_options and not own:
        yield (
            f"{say('worker.actor.loss_options')}: only an objective of your own (FILE.py:NAME) takes them; "
            "those of "
            f"{loss_type} are keys of worker.actor"
        )
    if loss_type.startswith("easyr1/"):
        if config.engine != "easyr1":
            yield f"{say('worker.actor.loss_type')}: EasyR1's own losses run on engine: easyr1 only"
        elif loss_type not in {f"easyr1/{name}" for name in _EASYR1_LOSSES}:
            # EasyR1 itself would train plain PPO without a word
            hint = f"; a file of yours would be ./{loss_type}" if own else ""
            yield f"{say('worker.actor.loss_type')}: EasyR1 has only {', '.join(_EASYR1_LOSSES)}{hint}"
        return
    if own:
        problem = _own_objective_problem(loss_type)
        if problem:
            yield f"{say('worker.actor.loss_type')}: {problem}"
    elif loss_type not in OBJECTIVES:
        hint = nearest(loss_type, OBJECTIVES)
        hint += f"; EasyR1's own would be easyr1/{loss_type}" if loss_type in _EASYR1_LOSSES else ""
        yield (
            f"{say('worker.actor.loss_type')}: there is no such objective, only {', '.join(OBJECTIVES)}{hint}"
        )
        return
    if actor.old_log_probs == "rollout" and actor.rollout_correction_cap is not None:
        yield (
            f"{say('worker.actor.rollout_correction_cap')}: it weighs by the gap between the trainer's and "
            "the rollout's "
            "log-probs, and worker.actor.old_log_probs: rollout takes them for the same"
        )
    for option in sorted(OBJECTIVE_KEYS):
        key = f"worker.actor.{option}"
        value = value_of(config, key)
        if key in config.written and value is not None:  # null takes back what a base file wrote
            try:
                if own:
                    raise ValueError(
                        "an objective of your own takes its options from worker.actor.loss_options"
                    )
                resolve_settings(loss_type, {option: value})
            except ValueError as error:
                yield f"{say(key)}: {error} (null takes back what a base file says)"


def _own_objective_problem(loss_type: str) -> str | None:
    """What can be known of FILE.py:NAME or package.module:NAME without running it."""
    place, _, name = loss_type.rpartition(":")
    is_file = place.endswith(".py")
    if not name.isidentifier() or not (is_file or all(part.isidentifier() for part in place.split("."))):
        return "an objective of your own is FILE.py:NAME or package.module:NAME"
    if is_file and not _exists(place, is_file=True):
        return f"there is no file {place} (seen from {Path.cwd()})"
    return None


_READ = (
    "data.image_dir",
    "data.format_prompt",
    "data.override_chat_template",
    "trainer.load_checkpoint_path",
)
_WRITTEN = ("trainer.save_checkpoint_path", "trainer.ray_timeline")
_MODEL = ("worker.actor.model.model_path", "worker.actor.model.tokenizer_path")


def _path_problems(config: Config, say: Say) -> Iterable[str]:
    for key in (*_READ, *_WRITTEN, *_MODEL):
        path = value_of(config, key)
        if path is not None and not path.strip():
            yield f"{say(key)}: an empty path names nothing; null, or no such line, stands for none"
        elif path is not None and path.startswith("~") and not _exists(path):
            yield (
                f"{say(key)}: only a shell knows what ~ is, at the start of a word: "
                f"{os.path.expanduser(path)}"
            )
        elif path is not None and key in _WRITTEN and key in config.written and not can_be_a_path(path):
            yield (
                f"{say(key)}: no file can be called that: no control characters, at most 255 bytes from / to "
                "/"
            )
    for key in _READ:
        path = value_of(config, key) or None
        is_name = key == "data.format_prompt" and path is not None and not _looks_like_path(path)
        if path is not None and not is_name and not _exists(path):
            yield f"{say(key)}: there is no such file or folder (seen from {Path.cwd()})"
    reward = config.worker.reward.reward_function
    if reward is not None:
        path = reward.rsplit(":", 1)[0]
        if _looks_like_path(path) and not _exists(path, is_file=True):
            yield f"{say('worker.reward.reward_function')}: there is no file {path} (seen from {Path.cwd()})"


def _rest_problems(config: Config, say: Say) -> Iterable[str]:
    if config.worker.actor.model.model_path is None:
        yield (
            "worker.actor.model.model_path is missing: a folder, or a hub id such as "
            "Qwen/Qwen2.5-VL-3B-Instruct"
        )
    if not config.data.train_files and not config.trainer.val_only:
        yield "data.train_files is missing: a file, a folder, or a hub id such as hiyouga/geometry3k@train"
    if config.worker.reward.reward_function is None:
        yield (
            "worker.reward.reward_function is missing: geometry3k, or a file of your own as path.py:function"
        )
    if not config.data.val_files and (config.trainer.val_freq > 0 or config.trainer.val_only):
        key = "trainer.val_only" if config.trainer.val_only else "trainer.val_freq"
        yield f"{say(key)}: it needs data.val_files"
    if config.algorithm.filter_low >= config.algorithm.filter_high:
        yield f"{say('algorithm.filter_low')}, {say('algorithm.filter_high')}: no mean lies between them"
    excluded = config.worker.actor.model.lora.exclude_modules
    try:
        re.compile(excluded or "")
    except (re.error, RecursionError, OverflowError) as error:
        yield (
            f"{say('worker.actor.model.lora.exclude_modules')}: no regular expression of whole names: {error}"
        )
    betas = config.worker.actor.optim.betas
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        yield f"{say('worker.actor.optim.betas')}: two numbers, each at least 0 and below 1"
    if not names_a_folder(config.trainer.experiment_name):
        yield (
            f"{say('trainer.experiment_name')}: a run needs a name, and its folder, runs/NAME, is called "
            "after it: no absolute "
            "path, no `..`, no control characters, at most 255 bytes from / to / "
            "(trainer.save_checkpoint_path names any other folder)"
        )
    yield from _validation_sampling_problems(config, say)


def _validation_sampling_problems(config: Config, say: Say) -> Iterable[str]:
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "n": (lambda x: isinstance(x, int) and x >= 1, "a whole number, 1 or more"),
        "temperature": (lambda x: isinstance(x, int | float) and x >= 0, "0 (greedy) or more"),
        "top_p": (lambda x: isinstance(x, int | float) and 0 < x <= 1, "above 0, at most 1"),
        "top_k": (lambda x: isinstance(x, int) and (x == -1 or x > 0), "-1 (no limit) or more than 0"),
        "seed": (lambda x: isinstance(x, int), "a whole number"),
    }
    key = "worker.rollout.val_override_config"
    for name, value in value_of(config, key).items():
        if name not in rules:
            yield f"{say(key)}: there is no {name!r}, only {', '.join(rules)}"
        elif isinstance(value, bool) or not rules[name][0](value):
            yield f"{say(key)}: {name} is {value!r}, but must be {rules[name][1]}"


def _exists(path: str, is_file: bool = False) -> bool:
    """Is there such a file, or folder? Not where the text can be no path: too long, or ~ of nobody."""
    try:
        place = Path(path).expanduser()
        return place.is_file() if is_file else place.exists()
    except (OSError, RuntimeError):
        return False


def _looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.endswith((".jinja", ".py"))


def _matching(keys: Iterable[str], patterns: tuple[str, ...], but: tuple[str, ...] = ()) -> list[str]:
    return sorted(k for k in keys if k not in but and any(fnmatchcase(k, p) for p in patterns))
