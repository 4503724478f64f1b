#!/usr/bin/env bash
# Qwen2.5-1.5B-Instruct on ALFWorld with the paper's GRPO (Table 6): 2 GPUs.
# Settings and reasons: configs/qwen2_5_1_5b_alfworld_grpo.yaml. Afterwards, once, both splits (recipes/README.md):
#   bash eval/alfworld.sh MODEL
source "$(dirname "$0")/_run.sh"
