#!/usr/bin/env bash
# Qwen3-VL-4B instead of Qwen2.5-VL-7B.
# What is set and why: configs/qwen3_vl_4b_geo3k_gmpo.yaml
#
#   bash recipes/qwen3_vl_4b_geo3k_gmpo.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen3_vl_4b_geo3k_gmpo.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test split:
#   gmpo-vl export runs/qwen3_vl_4b_geo3k_gmpo/checkpoints/step_N MODEL
#   bash eval/geometry3k_pass1_16.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen3_vl_4b_geo3k_gmpo.yaml "$@"
