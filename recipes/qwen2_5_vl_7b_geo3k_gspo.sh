#!/usr/bin/env bash
# GSPO (Zheng et al., 2025): one ratio per response, the geometric mean of its tokens', within 1 - 3e-4 and 1 + 4e-4, no KL.
# What is set and why: configs/qwen2_5_vl_7b_geo3k_gspo.yaml
#
#   bash recipes/qwen2_5_vl_7b_geo3k_gspo.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_vl_7b_geo3k_gspo.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test split:
#   gmpo-vl export runs/qwen2_5_vl_7b_geo3k_gspo/checkpoints/step_N MODEL
#   bash eval/geometry3k_pass1_16.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_vl_7b_geo3k_gspo.yaml "$@"
