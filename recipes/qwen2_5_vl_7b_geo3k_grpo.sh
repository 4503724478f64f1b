#!/usr/bin/env bash
# The paper's GRPO (Eq. 1): arithmetic mean over a response's tokens, mean over responses, ratio within 1 +- 0.2, no KL.
# What is set and why: configs/qwen2_5_vl_7b_geo3k_grpo.yaml
#
#   bash recipes/qwen2_5_vl_7b_geo3k_grpo.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_vl_7b_geo3k_grpo.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test split:
#   gmpo-vl export runs/qwen2_5_vl_7b_geo3k_grpo/checkpoints/step_N MODEL
#   bash eval/geometry3k_pass1_16.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_vl_7b_geo3k_grpo.yaml "$@"
