#!/usr/bin/env bash
# DAPO (Yu et al., 2025): token mean, ratio within 0.8 and 1.28, groups that are all right or all wrong replaced, no KL.
# Settings and reasons: configs/qwen2_5_vl_7b_geo3k_dapo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
