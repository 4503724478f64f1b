#!/usr/bin/env bash
# Qwen2.5-Math-7B on MATH levels 3 to 5 with GMPO, the paper's language setting (Table 1): 8 GPUs of 80 GB.
# Settings and reasons: configs/qwen2_5_math_7b_math_gmpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/text_benchmarks.sh MODEL
source "$(dirname "$0")/_run.sh"
