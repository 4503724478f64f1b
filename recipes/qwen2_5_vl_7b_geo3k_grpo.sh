#!/usr/bin/env bash
# The paper's GRPO (Eq. 1): arithmetic mean over a response's tokens, mean over responses, ratio within 1 +- 0.2, no KL.
# Settings and reasons: configs/qwen2_5_vl_7b_geo3k_grpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
