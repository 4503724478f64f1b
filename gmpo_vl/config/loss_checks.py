"""What a run refuses of its objective and its terms: options that do nothing, and what cannot go together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from gmpo_vl.config.schema import Config, value_of
from gmpo_vl.policy.corrections import rejections
from gmpo_vl.policy.objectives import OBJECTIVE_KEYS, OBJECTIVES, is_own, resolve_settings
from gmpo_vl.storage.files import exists
from gmpo_vl.storage.names import nearest

_EASYR1_LOSSES = ("default", "gspo", "gspo_token", "cispo", "sapo")

Say = Callable[[str], str]


def kl_problems(config: Config, say: Say) -> Iterable[str]:
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


def papo_problems(config: Config, say: Say) -> Iterable[str]:
    papo, actor, on = config.algorithm.papo, config.worker.actor, "algorithm.papo.kl_prcp_coef"
    if papo.kl_prcp_coef == 0:
        for item in fields(papo):
            key = f"algorithm.papo.{item.name}"
            if item.name != "kl_prcp_coef" and key in config.written:
                yield f"{say(key)}: a part of PAPO, which {say(on)} leaves out; remove one of the two"
        return
    if actor.loss_type.startswith("easyr1/"):
        yield f"{say(on)}: EasyR1's own losses have no PAPO; write an objective of ours"
    if papo.aug_entropy_loss_coef and not papo.masked_gradient:
        yield (
            f"{say('algorithm.papo.aug_entropy_loss_coef')}: this entropy has a gradient under "
            "algorithm.papo.masked_gradient: true alone"
        )
    if papo.ori_entropy_loss_coef and actor.entropy_coef:
        yield (
            f"{say('algorithm.papo.ori_entropy_loss_coef')}, {say('worker.actor.entropy_coef')}: the first "
            "lowers the entropy that the second raises; write one of them"
        )


def loss_problems(config: Config, say: Say) -> Iterable[str]:
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
        else:
            yield from _temperature_problems(config, say)
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


def _temperature_problems(config: Config, say: Say) -> Iterable[str]:
    """Of EasyR1's own losses."""
    for name in ("tau_positive", "tau_negative"):
        key = f"worker.actor.{name}"
        value, loss_type = value_of(config, key), config.worker.actor.loss_type
        if key not in config.written or value is None:
            continue
        if loss_type != "easyr1/sapo":
            yield f"{say(key)}: it belongs to sapo and easyr1/sapo; {loss_type} does not use it"
            continue
        try:
            resolve_settings("sapo", {name: value})
        except ValueError as error:
            yield f"{say(key)}: {error}"


def correction_problems(config: Config, say: Say) -> Iterable[str]:
    section, actor = "algorithm.rollout_correction", config.worker.actor
    wanted = config.algorithm.rollout_correction
    if wanted.rollout_is is None and f"{section}.rollout_is_threshold" in config.written:
        yield f"{say(f'{section}.rollout_is_threshold')}: only {section}.rollout_is uses it, which is null"
    if wanted.rollout_rs is not None:
        try:
            rejections(wanted.rollout_rs, wanted.rollout_rs_threshold)
        except ValueError as error:
            yield f"{say(f'{section}.rollout_rs')}: {error}"
    elif wanted.rollout_rs_threshold is not None:
        yield f"{say(f'{section}.rollout_rs_threshold')}: only {section}.rollout_rs uses it, which is null"
    for name in ("rollout_is", "rollout_rs"):
        if getattr(wanted, name) is None:
            continue
        key = f"{section}.{name}"
        if actor.loss_type.startswith("easyr1/"):
            yield f"{say(key)}: EasyR1's own losses do not know it; write null, or an objective of ours"
        if actor.old_log_probs == "rollout":
            yield (
                f"{say(key)}: it corrects the gap between the trainer's and the sampler's log-probs, and "
                "worker.actor.old_log_probs: rollout takes them for the same"
            )
    if wanted.rollout_is == "token" and is_own(actor.loss_type):
        yield (
            f"{say(f'{section}.rollout_is')}: an objective of your own has no place for weights of tokens; "
            "write sequence or geometric"
        )


def _own_objective_problem(loss_type: str) -> str | None:
    """What can be known of FILE.py:NAME or package.module:NAME without running it."""
    place, _, name = loss_type.rpartition(":")
    is_file = place.endswith(".py")
    if not name.isidentifier() or not (is_file or all(part.isidentifier() for part in place.split("."))):
        return "an objective of your own is FILE.py:NAME or package.module:NAME"
    if is_file and not exists(place, is_file=True):
        return f"there is no file {place} (seen from {Path.cwd()})"
    return None
