#!/usr/bin/env bash
# Qwen3-VL-4B instead of Qwen2.5-VL-7B.
# Settings and reasons: configs/qwen3_vl_4b_geo3k_gmpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
