"""What to write instead of a key that there is not: a name of another trainer's, a former one, a typo."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Keys that are gone, or verl's of the same section, and what to write instead. Files that were saved before
# have their null.
INSTEAD = {
    "worker.actor.rollout_correction_cap": "write algorithm.rollout_correction.rollout_is: geometric, and "
    "the cap as algorithm.rollout_correction.rollout_is_threshold",
    "algorithm.rollout_correction.bypass_mode": "true is worker.actor.old_log_probs: rollout here, false is "
    "worker.actor.old_log_probs: recompute",
    "algorithm.rollout_correction.loss_type": "the loss is worker.actor.loss_type in any case",
    "algorithm.rollout_correction.rollout_is_batch_normalize": "it would divide every gradient of a batch by "
    "one number, the mean weight, which rollout/is_weight_mean shows; leave it out",
}
_KL_IN_THE_LOSS = "algorithm.kl_coef, with algorithm.disable_kl: false and algorithm.use_kl_loss: true"
_TOKEN_WEIGHTS = "algorithm.rollout_correction.rollout_is: token, with its rollout_is_threshold"
# A name in any section, where the likest key is not the one that is meant.
_BY_NAME = {
    "rollout_correction_cap": INSTEAD["worker.actor.rollout_correction_cap"],
    # PAPO's public code, and TRL's
    "use_kl_prcp": "write algorithm.papo.kl_prcp_coef, above 0",
    "perception_loss_weight": "write algorithm.papo.kl_prcp_coef",
    "mask_ratio": "write algorithm.papo.black_prob",
    # verl
    "advantage": "write algorithm.adv_estimator",
    "bypass_mode": INSTEAD["algorithm.rollout_correction.bypass_mode"],
    "clip_ratio": "write worker.actor.clip_ratio_low and worker.actor.clip_ratio_high",
    "clip_ratio_c": "write worker.actor.clip_ratio_dual, of easyr1/default",
    "default_local_dir": "write trainer.save_checkpoint_path",
    "filter_groups": "write algorithm.online_filtering, and filter_key, filter_low, filter_high beside it",
    "grad_clip": "write worker.actor.max_grad_norm",
    "kl_loss_coef": f"write {_KL_IN_THE_LOSS}",
    "kl_loss_type": "write algorithm.kl_penalty",
    "log_prob_micro_batch_size_per_gpu": "write worker.actor.micro_batch_size_per_device_for_experience",
    "loss_agg_mode": "an objective of ours says itself what it averages; of EasyR1's own losses it is "
    "worker.actor.loss_avg_mode",
    "loss_mode": "write worker.actor.loss_type",
    "loss_scale_factor": "write worker.actor.length_constant, of dr_grpo",
    "norm_adv_by_std_in_grpo": "false is algorithm.adv_estimator: grpo_no_std here",
    "ppo_max_token_len_per_gpu": "write worker.actor.max_tokens_per_micro_batch",
    "tau_neg": "write worker.actor.tau_negative",
    "tau_pos": "write worker.actor.tau_positive",
    "test_freq": "write trainer.val_freq",
    "tis_imp_ratio_cap": f"write {_TOKEN_WEIGHTS}",
    "total_training_steps": "write trainer.max_steps",
    "train_batch_size": "write data.rollout_batch_size, in prompts",
    "ulysses_sequence_parallel_size": "write worker.actor.ulysses_size",
    "use_kl_in_reward": f"KL is a term of the loss here: {_KL_IN_THE_LOSS}",
    "val_kwargs": "write worker.rollout.val_override_config",
    # TRL
    "importance_sampling_level": "worker.actor.loss_type says it: `sequence` is gspo",
    "learning_rate": "write worker.actor.optim.lr",
    "mask_truncated_completions": "true is algorithm.overlong_responses: mask here",
    "max_completion_length": "write data.max_response_length",
    "num_generations": "write worker.rollout.n",
    "num_iterations": "write worker.actor.ppo_epochs",
    "output_dir": "write trainer.save_checkpoint_path",
    "per_device_train_batch_size": "write worker.actor.micro_batch_size_per_device_for_update",
    "sapo_temperature_neg": "write worker.actor.tau_negative",
    "sapo_temperature_pos": "write worker.actor.tau_positive",
    "scale_rewards": "none is algorithm.adv_estimator: grpo_no_std here",
    "vllm_importance_sampling_correction": f"write {_TOKEN_WEIGHTS}",
}
_OF_THE_LOSS = {
    "beta": f"write {_KL_IN_THE_LOSS}",
    "delta": "write worker.actor.clip_ratio_dual, of easyr1/default",
    "epsilon": "write worker.actor.clip_ratio_low and clip_ratio_high; for gmpo log_clip_low and "
    "log_clip_high, limits of the logarithm",
    "epsilon_high": "write worker.actor.clip_ratio_high (of cispo TRL's limit minus 1); for gmpo "
    "log_clip_high, a limit of the logarithm",
    "p": "write worker.actor.mean_power",
    "tau": "write worker.actor.tau_positive and worker.actor.tau_negative",
}
# Letters of equations mean another thing in each section. {last part of the section: {letter: what to write}}
_LETTERS = {
    "": _OF_THE_LOSS,
    "actor": _OF_THE_LOSS,
    "algorithm": _OF_THE_LOSS,
    "optim": {
        "beta": "write worker.actor.optim.betas",
        "epsilon": "it is torch's, 1e-8, and no setting; worker.actor.optim.betas is one",
    },
    "papo": {"gamma": "write algorithm.papo.kl_prcp_coef"},
}


def instead_of(key: str, known: Iterable[str]) -> str:
    """`; write ...` or `; did you mean ...?`, the end of a message about a dotted key; empty where nothing is
    near.

    known: all keys. The likest is one with the same last part, or one like it, in the likest section.
    """
    *sections, last = key.split(".")
    said = _LETTERS.get(sections[-1] if sections else "", {}).get(last)
    for name in (last, *reversed(sections)):
        said = said or _BY_NAME.get(name)
    if said:
        return f"; {said}"
    if last in _OF_THE_LOSS:  # a letter is no misspelling
        return ""
    parts = {one: one.rsplit(".", 1)[-1] for one in known}
    names = [last] if last in parts.values() else difflib.get_close_matches(last, sorted({*parts.values()}))
    candidates = [one for one, part in parts.items() if part in names]
    best = difflib.get_close_matches(key, candidates, n=1, cutoff=0.0)
    return f"; did you mean {best[0]}?" if best else ""
