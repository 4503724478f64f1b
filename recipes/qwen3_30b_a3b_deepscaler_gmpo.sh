#!/usr/bin/env bash
# The mixture of experts Qwen3-30B-A3B on DeepScaleR with GMPO (Table 7). Works, and is slow on FSDP.
# What is set and why: configs/qwen3_30b_a3b_deepscaler_gmpo.yaml
#
#   bash recipes/qwen3_30b_a3b_deepscaler_gmpo.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen3_30b_a3b_deepscaler_gmpo.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test questions:
#   gmpo-vl export runs/qwen3_30b_a3b_deepscaler_gmpo/checkpoints/step_N MODEL
#   bash eval/moe_math500.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen3_30b_a3b_deepscaler_gmpo.yaml "$@"
