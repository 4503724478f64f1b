#!/usr/bin/env bash
# The paper's GRPO (Eq. 1) in the same setting: what GMPO is compared with.
# What is set and why: configs/qwen2_5_math_7b_math_grpo.yaml
#
#   bash recipes/qwen2_5_math_7b_math_grpo.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_math_7b_math_grpo.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test questions:
#   gmpo-vl export runs/qwen2_5_math_7b_math_grpo/checkpoints/step_N MODEL
#   bash eval/text_benchmarks.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_math_7b_math_grpo.yaml "$@"
