#!/usr/bin/env bash
# LoRA of rank 64 on the language model (vLLM has none for the ViT), with ten times the learning rate; 2 GPUs of 40 GB.
# What is set and why: configs/qwen2_5_vl_7b_geo3k_gmpo_lora.yaml
#
#   bash recipes/qwen2_5_vl_7b_geo3k_gmpo_lora.sh --dry-run            # check everything, print the plan, train nothing
#   bash recipes/qwen2_5_vl_7b_geo3k_gmpo_lora.sh [a.b=c ...]          # the same command goes on where a run stopped
#
# Then, once, on the test split:
#   gmpo-vl export runs/qwen2_5_vl_7b_geo3k_gmpo_lora/checkpoints/step_N MODEL
#   bash eval/geometry3k_pass1_16.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train configs/qwen2_5_vl_7b_geo3k_gmpo_lora.yaml "$@"
