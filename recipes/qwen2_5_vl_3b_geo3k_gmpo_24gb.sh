#!/usr/bin/env bash
# One GPU of 24 GB: Qwen2.5-VL-3B with LoRA, smaller batches and shorter answers.
# Settings and reasons: configs/qwen2_5_vl_3b_geo3k_gmpo_24gb.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
