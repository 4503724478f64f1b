#!/usr/bin/env bash
# THE PAPER'S HABIT, EasyR1's too: validates on the test split, and so picks its best step by it.
# Settings and reasons: configs/qwen2_5_vl_7b_geo3k_gmpo_val_on_test.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
