#!/usr/bin/env bash
# The mixture of experts Qwen3-VL-30B-A3B, bf16 as the 32B. EasyR1 itself reports 4,600 s a step on 8 H100 for it.
# What is set and why: configs/qwen3_vl_30b_a3b_geo3k_gmpo.yaml
#
#   bash recipes/qwen3_vl_30b_a3b_geo3k_gmpo.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen3_vl_30b_a3b_geo3k_gmpo.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test split:
#   gmpo-vl export runs/qwen3_vl_30b_a3b_geo3k_gmpo/checkpoints/step_N MODEL
#   bash eval/geometry3k_pass1_16.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen3_vl_30b_a3b_geo3k_gmpo.yaml "$@"
