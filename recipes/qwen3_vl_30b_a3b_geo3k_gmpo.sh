#!/usr/bin/env bash
# The mixture of experts Qwen3-VL-30B-A3B, bf16 as the 32B. EasyR1 itself reports 4,600 s a step on 8 H100 for it.
# Settings and reasons: configs/qwen3_vl_30b_a3b_geo3k_gmpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
