#!/usr/bin/env bash
# Qwen2.5-Math-7B in the R1 template: reasoning after <think>, the answer in <answer>.
# What is set and why: configs/qwen2_5_math_7b_math_gmpo_r1_template.yaml
#
#   bash recipes/qwen2_5_math_7b_math_gmpo_r1_template.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_math_7b_math_gmpo_r1_template.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test questions:
#   gmpo-vl export runs/qwen2_5_math_7b_math_gmpo_r1_template/checkpoints/step_N MODEL
#   bash eval/text_benchmarks.sh MODEL results --template r1
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_math_7b_math_gmpo_r1_template.yaml "$@"
