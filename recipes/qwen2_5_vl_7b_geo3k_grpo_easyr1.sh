#!/usr/bin/env bash
# EasyR1's own GRPO with its defaults and its own code: token mean, ratio within 0.8 and 1.3, dual clip at 3, KL as a loss.
# Settings and reasons: configs/qwen2_5_vl_7b_geo3k_grpo_easyr1.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
