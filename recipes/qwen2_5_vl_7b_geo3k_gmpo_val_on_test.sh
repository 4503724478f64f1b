#!/usr/bin/env bash
# THE PAPER'S HABIT, EasyR1's too: validates on the test split, and so picks its best step by it.
# What is set and why: configs/qwen2_5_vl_7b_geo3k_gmpo_val_on_test.yaml
#
#   bash recipes/qwen2_5_vl_7b_geo3k_gmpo_val_on_test.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_vl_7b_geo3k_gmpo_val_on_test.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test split:
#   gmpo-vl export runs/qwen2_5_vl_7b_geo3k_gmpo_val_on_test/checkpoints/step_N MODEL
#   bash eval/geometry3k_pass1_16.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_vl_7b_geo3k_gmpo_val_on_test.yaml "$@"
