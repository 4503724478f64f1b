#!/usr/bin/env bash
# GRPO with GMPO's clip: the ratio within (e^-0.4, e^0.4) = (0.670, 1.492). Is it the clip, or the geometric mean?
# Settings and reasons: configs/qwen2_5_vl_7b_geo3k_grpo_wide_clip.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
