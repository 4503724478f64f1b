#!/usr/bin/env bash
# A small mixture of experts (8 experts, 1 active), made of Qwen2.5-0.5B, on CountDown with GMPO (Table 7).
# What is set and why: configs/qwen2_5_moe_countdown_gmpo.yaml
#
#   bash recipes/qwen2_5_moe_countdown_gmpo.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_moe_countdown_gmpo.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test puzzles:
#   gmpo-vl export runs/qwen2_5_moe_countdown_gmpo/checkpoints/step_N MODEL
#   gmpo-vl train configs/qwen2_5_moe_countdown_gmpo.yaml data.val_files=data/countdown/test.parquet trainer.val_only=true worker.actor.model.model_path=MODEL trainer.save_checkpoint_path=runs/qwen2_5_moe_countdown_gmpo_test
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_moe_countdown_gmpo.yaml "$@"
