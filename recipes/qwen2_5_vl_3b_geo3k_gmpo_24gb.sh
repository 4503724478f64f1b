#!/usr/bin/env bash
# One GPU of 24 GB: Qwen2.5-VL-3B with LoRA, smaller batches and shorter answers.
# What is set and why: configs/qwen2_5_vl_3b_geo3k_gmpo_24gb.yaml
#
#   bash recipes/qwen2_5_vl_3b_geo3k_gmpo_24gb.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_vl_3b_geo3k_gmpo_24gb.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test split:
#   gmpo-vl export runs/qwen2_5_vl_3b_geo3k_gmpo_24gb/checkpoints/step_N MODEL
#   bash eval/geometry3k_pass1_16.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_vl_3b_geo3k_gmpo_24gb.yaml "$@"
