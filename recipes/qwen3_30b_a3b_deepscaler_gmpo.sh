#!/usr/bin/env bash
# The mixture of experts Qwen3-30B-A3B on DeepScaleR with GMPO (Table 7). Works, and is slow on FSDP.
# Settings and reasons: configs/qwen3_30b_a3b_deepscaler_gmpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/moe_math500.sh MODEL
source "$(dirname "$0")/_run.sh"
