#!/usr/bin/env bash
# LoRA of rank 64 on the language model (vLLM has none for the ViT), with ten times the learning rate; 2 GPUs of 40 GB.
# Settings and reasons: configs/qwen2_5_vl_7b_geo3k_gmpo_lora.yaml. Afterwards, once, the test set (recipes/README.md):
#   bash eval/geometry3k_pass1_16.sh MODEL
source "$(dirname "$0")/_run.sh"
