#!/usr/bin/env bash
# Qwen3.5-9B on Geometry3K with GMPO inside verl 0.9: 8 GPUs of 80 GB (docs/verl.md). Not run on a GPU. Its transformers must be 5,
# and vLLM one that knows Qwen3.5. It differs from the 7B's recipe in the model, and in what is written here. Its chat template
# opens <think> in the prompt, so that no response begins with it, as geometry3k's form wants: the form is not paid.
#   bash recipes/verl_qwen3_5_9b_geo3k_gmpo.sh [a.b=c ...]
set -euo pipefail
exec bash "$(dirname "$0")/verl_qwen2_5_vl_7b_geo3k_gmpo.sh" \
    actor_rollout_ref.model.path=Qwen/Qwen3.5-9B \
    +reward.custom_reward_function.reward_kwargs.format_weight=0.0 \
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=8192 \
    trainer.experiment_name=verl_qwen3_5_9b_geo3k_gmpo \
    "$@"
