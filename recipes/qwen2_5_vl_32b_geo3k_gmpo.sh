#!/usr/bin/env bash
# Qwen2.5-VL-32B instead of 7B: weights and moments in bf16 (EasyR1's adamw_bf16), vLLM over all 8 GPUs of 80 GB.
# Settings and reasons: configs/qwen2_5_vl_32b_geo3k_gmpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
