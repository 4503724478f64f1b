#!/usr/bin/env bash
# DAPO (Yu et al., 2025): token mean, ratio within 0.8 and 1.28, groups that are all right or all wrong replaced, no KL.
# What is set and why: configs/qwen2_5_vl_7b_geo3k_dapo.yaml
#
#   bash recipes/qwen2_5_vl_7b_geo3k_dapo.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_vl_7b_geo3k_dapo.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test split:
#   gmpo-vl export runs/qwen2_5_vl_7b_geo3k_dapo/checkpoints/step_N MODEL
#   bash eval/geometry3k_pass1_16.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_vl_7b_geo3k_dapo.yaml "$@"
