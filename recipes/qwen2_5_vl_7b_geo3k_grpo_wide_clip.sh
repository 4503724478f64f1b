#!/usr/bin/env bash
# GRPO with GMPO's clip: the ratio within (e^-0.4, e^0.4) = (0.670, 1.492). Is it the clip, or the geometric mean?
# What is set and why: configs/qwen2_5_vl_7b_geo3k_grpo_wide_clip.yaml
#
#   bash recipes/qwen2_5_vl_7b_geo3k_grpo_wide_clip.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_vl_7b_geo3k_grpo_wide_clip.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test split:
#   gmpo-vl export runs/qwen2_5_vl_7b_geo3k_grpo_wide_clip/checkpoints/step_N MODEL
#   bash eval/geometry3k_pass1_16.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_vl_7b_geo3k_grpo_wide_clip.yaml "$@"
