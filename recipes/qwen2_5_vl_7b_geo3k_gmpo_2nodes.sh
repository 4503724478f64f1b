#!/usr/bin/env bash
# Two machines of 8 GPUs (configs/qwen2_5_vl_7b_geo3k_gmpo_2nodes.yaml). The same environment on both; then
#   on the first:   ray start --head --port=6379
#   on the second:  ray start --address=FIRST:6379
# and on the first alone, with `ray status` showing 16 GPUs:
#
#   bash recipes/qwen2_5_vl_7b_geo3k_gmpo_2nodes.sh [--dry-run] [a.b=c ...]
export RAY_ADDRESS=${RAY_ADDRESS:-auto}
source "$(dirname "$0")/_run.sh"
