#!/usr/bin/env bash
# DeepSeek-R1-Distill-Qwen-7B on MATH levels 3 to 5 with GMPO, in its own chat template.
# What is set and why: configs/r1_distill_qwen_7b_math_gmpo.yaml
#
#   bash recipes/r1_distill_qwen_7b_math_gmpo.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/r1_distill_qwen_7b_math_gmpo.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test questions:
#   gmpo-vl export runs/r1_distill_qwen_7b_math_gmpo/checkpoints/step_N MODEL
#   bash eval/text_benchmarks.sh MODEL results --template chat
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/r1_distill_qwen_7b_math_gmpo.yaml "$@"
