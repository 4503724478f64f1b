#!/usr/bin/env bash
# EasyR1's own GRPO with its defaults and its own code: token mean, ratio within 0.8 and 1.3, dual clip at 3, KL as a loss.
# What is set and why: configs/qwen2_5_vl_7b_geo3k_grpo_easyr1.yaml
#
#   bash recipes/qwen2_5_vl_7b_geo3k_grpo_easyr1.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_vl_7b_geo3k_grpo_easyr1.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test split:
#   gmpo-vl export runs/qwen2_5_vl_7b_geo3k_grpo_easyr1/checkpoints/step_N MODEL
#   bash eval/geometry3k_pass1_16.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_vl_7b_geo3k_grpo_easyr1.yaml "$@"
