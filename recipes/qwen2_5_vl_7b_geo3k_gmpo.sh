#!/usr/bin/env bash
# Qwen2.5-VL-7B on Geometry3K with GMPO: engine easyr1, 8 GPUs of 80 GB.
# Settings and reasons: configs/qwen2_5_vl_7b_geo3k_gmpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
