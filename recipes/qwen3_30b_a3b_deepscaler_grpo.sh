#!/usr/bin/env bash
# The paper's GRPO for the mixture of experts. Works, and is slow on FSDP.
# Settings and reasons: configs/qwen3_30b_a3b_deepscaler_grpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/moe_math500.sh MODEL
source "$(dirname "$0")/_run.sh"
