"""What a run refuses: every cross-check of a configuration's values, one sentence each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from gmpo_vl.config.advantage_checks import advantage_problems
from gmpo_vl.config.environment_checks import environment_problems, refused_keys
from gmpo_vl.config.loss_checks import (
    Say,
    correction_problems,
    kl_problems,
    loss_problems,
    papo_problems,
)
from gmpo_vl.config.schema import Config, all_keys, value_of
from gmpo_vl.config.support import SUPPORTED
from gmpo_vl.storage.files import can_be_a_path, exists, names_a_folder
from gmpo_vl.storage.names import nearest


def check(config: Config, origin: Mapping[str, str]) -> list[str]:
    """All that is wrong with a config, one message each. `origin`: where each written key was written."""

    def say(key: str) -> str:
        text = json.dumps(value_of(config, key), ensure_ascii=False, default=repr)
        text = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)
        return f"{key} is {text if len(text) <= 200 else text[:200] + '...'} ({origin.get(key, 'default')})"

    of_games = environment_problems(config, say)
    # What games refuse is said once: another message on the key says how it would be right without games.
    refused = tuple(say(key) for key in refused_keys(config))
    problems = list(_choice_problems(config, say))
    if not problems:
        problems += _refusals(config, say)
    problems += _range_problems(config, say)
    of_loss = (kl_problems, papo_problems, loss_problems, correction_problems)
    others = (_batch_problems, _length_problems, advantage_problems, *of_loss)
    for cross_check in (*others, _path_problems, _rest_problems):
        problems += cross_check(config, say)
    return [*(problem for problem in problems if not problem.startswith(refused)), *of_games]


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
    if config.trainer.grad_noise_freq > 0 and update == 1:
        yield (
            f"{say('trainer.grad_noise_freq')}: it compares two halves of the groups of an update, and "
            f"{say('worker.actor.global_batch_size')}; write -1, or 2 prompts or more an update"
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
        elif path is not None and path.startswith("~") and not exists(path):
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
        if path is not None and not is_name and not exists(path):
            yield f"{say(key)}: there is no such file or folder (seen from {Path.cwd()})"
    reward = config.worker.reward.reward_function
    if reward is not None:
        path = reward.rsplit(":", 1)[0]
        if _looks_like_path(path) and not exists(path, is_file=True):
            yield f"{say('worker.reward.reward_function')}: there is no file {path} (seen from {Path.cwd()})"


def _rest_problems(config: Config, say: Say) -> Iterable[str]:
    if config.worker.actor.model.model_path is None:
        yield (
            "worker.actor.model.model_path is missing: a folder, or a hub id such as "
            "Qwen/Qwen2.5-VL-3B-Instruct"
        )
    if not config.data.train_files and not config.trainer.val_only:
        yield "data.train_files is missing: a file, a folder, or a hub id such as hiyouga/geometry3k@train"
    if config.worker.reward.reward_function is None and config.environment.name is None:
        yield (
            "worker.reward.reward_function is missing: geometry3k, or a file of your own as path.py:function"
        )
    if not config.data.val_files and (config.trainer.val_freq > 0 or config.trainer.val_only):
        key = "trainer.val_only" if config.trainer.val_only else "trainer.val_freq"
        yield f"{say(key)}: it needs data.val_files"
    if "trainer.look_prompts" in config.written and config.trainer.look_freq == -1:
        yield f"{say('trainer.look_prompts')}: only trainer.look_freq uses it, {say('trainer.look_freq')}"
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


def _looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.endswith((".jinja", ".py"))
