#!/usr/bin/env bash
# Qwen2.5-Math-7B in the R1 template: reasoning after <think>, the answer in <answer>.
# Settings and reasons: configs/qwen2_5_math_7b_math_gmpo_r1_template.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/text_benchmarks.sh MODEL results --template r1
source "$(dirname "$0")/_run.sh"
