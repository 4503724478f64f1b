#!/usr/bin/env bash
# Qwen2.5-VL-7B on Geometry3K with GMPO inside verl 0.9: 8 GPUs of 80 GB, FSDP2 and vLLM (docs/verl.md). Not run on a GPU.
#   bash recipes/verl_qwen2_5_vl_7b_geo3k_gmpo.sh [a.b=c ...]
# The settings are those of configs/qwen2_5_vl_7b_geo3k_gmpo.yaml: a step is 512 prompts x 5, an update 128 prompts. DATA is a
# folder with train.parquet and val.parquet, made as the page says.
set -euo pipefail
DATA=${DATA:-$HOME/data/geo3k}
exec python3 -m verl.trainer.main_ppo \
    actor_rollout_ref.actor.policy_loss._target_=gmpo_vl.plugins.verl.PolicyLoss \
    actor_rollout_ref.actor.policy_loss.loss_mode=gmpo_vl/gmpo \
    +actor_rollout_ref.actor.policy_loss.log_clip_low=0.4 \
    +actor_rollout_ref.actor.policy_loss.log_clip_high=0.4 \
    reward.custom_reward_function.path=pkg://gmpo_vl.plugins.verl \
    +reward.custom_reward_function.reward_kwargs.reward=geometry3k \
    algorithm.adv_estimator=grpo \
    algorithm.use_kl_in_reward=false \
    data.train_files="$DATA/train.parquet" \
    data.val_files="$DATA/val.parquet" \
    data.train_batch_size=512 \
    data.val_batch_size=1024 \
    data.seed=1 \
    data.max_prompt_length=2048 \
    data.max_response_length=2048 \
    data.filter_overlong_prompts=true \
    data.truncation=error \
    data.image_key=images \
    +data.mm_processor_kwargs.min_pixels=262144 \
    +data.mm_processor_kwargs.max_pixels=4194304 \
    actor_rollout_ref.model.path=Qwen/Qwen2.5-VL-7B-Instruct \
    actor_rollout_ref.model.use_remove_padding=true \
    actor_rollout_ref.model.enable_gradient_checkpointing=true \
    actor_rollout_ref.actor.strategy=fsdp2 \
    actor_rollout_ref.actor.ppo_mini_batch_size=128 \
    actor_rollout_ref.actor.use_dynamic_bsz=true \
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=16384 \
    actor_rollout_ref.actor.grad_clip=1.0 \
    actor_rollout_ref.actor.use_kl_loss=false \
    actor_rollout_ref.actor.optim.lr=1e-6 \
    actor_rollout_ref.actor.optim.weight_decay=0.01 \
    actor_rollout_ref.actor.fsdp_config.param_offload=true \
    actor_rollout_ref.actor.fsdp_config.optimizer_offload=true \
    actor_rollout_ref.rollout.name=vllm \
    actor_rollout_ref.rollout.n=5 \
    actor_rollout_ref.rollout.temperature=1.0 \
    actor_rollout_ref.rollout.seed=1 \
    actor_rollout_ref.rollout.tensor_model_parallel_size=2 \
    actor_rollout_ref.rollout.gpu_memory_utilization=0.6 \
    actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=true \
    actor_rollout_ref.rollout.val_kwargs.do_sample=true \
    actor_rollout_ref.rollout.val_kwargs.temperature=0.6 \
    actor_rollout_ref.rollout.val_kwargs.top_p=0.95 \
    trainer.project_name=gmpo_geometry3k \
    trainer.experiment_name=verl_qwen2_5_vl_7b_geo3k_gmpo \
    'trainer.logger=[console,file,tensorboard]' \
    trainer.n_gpus_per_node=8 \
    trainer.nnodes=1 \
    trainer.total_epochs=15 \
    trainer.test_freq=5 \
    trainer.log_val_generations=8 \
    trainer.save_freq=5 \
    trainer.max_actor_ckpt_to_keep=3 \
    "$@"
