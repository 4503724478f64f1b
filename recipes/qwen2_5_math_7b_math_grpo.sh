#!/usr/bin/env bash
# The paper's GRPO (Eq. 1) in the same setting: what GMPO is compared with.
# Settings and reasons: configs/qwen2_5_math_7b_math_grpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/text_benchmarks.sh MODEL
source "$(dirname "$0")/_run.sh"
