#!/usr/bin/env bash
# The paper's GRPO on CountDown, same mixture.
# What is set and why: configs/qwen2_5_moe_countdown_grpo.yaml
#
#   bash recipes/qwen2_5_moe_countdown_grpo.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_moe_countdown_grpo.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test puzzles:
#   gmpo-vl export runs/qwen2_5_moe_countdown_grpo/checkpoints/step_N MODEL
#   gmpo-vl train configs/qwen2_5_moe_countdown_grpo.yaml data.val_files=data/countdown/test.parquet trainer.val_only=true worker.actor.model.model_path=MODEL trainer.save_checkpoint_path=runs/qwen2_5_moe_countdown_grpo_test
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_moe_countdown_grpo.yaml "$@"
