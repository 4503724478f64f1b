#!/usr/bin/env bash
# The paper's GRPO for the 1.5B.
# Settings and reasons: configs/qwen2_5_math_1_5b_math_grpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/text_benchmarks.sh MODEL
source "$(dirname "$0")/_run.sh"
