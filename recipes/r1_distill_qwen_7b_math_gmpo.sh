#!/usr/bin/env bash
# DeepSeek-R1-Distill-Qwen-7B on MATH levels 3 to 5 with GMPO, in its own chat template.
# Settings and reasons: configs/r1_distill_qwen_7b_math_gmpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/text_benchmarks.sh MODEL results --template chat
source "$(dirname "$0")/_run.sh"
