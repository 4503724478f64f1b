#!/usr/bin/env bash
# The paper's GRPO for R1-Distill-Qwen-7B.
# Settings and reasons: configs/r1_distill_qwen_7b_math_grpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/text_benchmarks.sh MODEL results --template chat
source "$(dirname "$0")/_run.sh"
