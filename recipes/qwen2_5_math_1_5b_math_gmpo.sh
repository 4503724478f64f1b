#!/usr/bin/env bash
# Qwen2.5-Math-1.5B in the same setting: 4 GPUs.
# Settings and reasons: configs/qwen2_5_math_1_5b_math_gmpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/text_benchmarks.sh MODEL
source "$(dirname "$0")/_run.sh"
