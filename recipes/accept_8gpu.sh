#!/usr/bin/env bash
# Does it all work on 8 GPUs, and what does sharing prompts bring? Qwen2.5-VL-3B, 5 steps each: GMPO with shared prompts, GMPO
# with every rollout alone, and EasyR1's own GRPO at micro-batches of 1, 4 and 8. Ends with a table and PASS or FAIL in
# runs/accept/accept.txt; a run that is there already is not run again. Takes about an hour on 8 H100.
#   bash recipes/accept_8gpu.sh [a.b=c ...]
set -euo pipefail
cd "$(dirname "$0")/.."
run() { # NAME CONFIG [a.b=c ...]
  gmpo-vl train "$2" worker.actor.model.model_path=Qwen/Qwen2.5-VL-3B-Instruct trainer.max_steps=5 trainer.val_freq=-1 \
    trainer.val_before_train=false trainer.save_freq=5 trainer.save_limit=1 trainer.save_model_only=false \
    trainer.experiment_name="accept_$1" trainer.save_checkpoint_path="runs/accept/$1" "${@:3}"
}
run shared configs/qwen2_5_vl_3b_geo3k_gmpo.yaml "$@"
run plain configs/qwen2_5_vl_3b_geo3k_gmpo.yaml worker.actor.share_prefix=never "$@"
for size in 1 4 8; do
  run "easyr1_$size" configs/qwen2_5_vl_7b_geo3k_grpo_easyr1.yaml worker.rollout.tensor_parallel_size=1 \
    worker.actor.micro_batch_size_per_device_for_update=$size \
    worker.actor.micro_batch_size_per_device_for_experience=$((2 * size)) "$@"
done
python recipes/accept_report.py runs/accept
