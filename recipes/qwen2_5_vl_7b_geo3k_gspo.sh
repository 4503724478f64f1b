#!/usr/bin/env bash
# GSPO (Zheng et al., 2025): one ratio per response, the geometric mean of its tokens', within 1 - 3e-4 and 1 + 4e-4, no KL.
# Settings and reasons: configs/qwen2_5_vl_7b_geo3k_gspo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
