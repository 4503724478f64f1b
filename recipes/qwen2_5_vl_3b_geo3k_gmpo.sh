#!/usr/bin/env bash
# Qwen2.5-VL-3B instead of 7B; 8 GPUs of 40 GB or more.
# Settings and reasons: configs/qwen2_5_vl_3b_geo3k_gmpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
