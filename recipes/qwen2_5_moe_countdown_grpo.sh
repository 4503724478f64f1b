#!/usr/bin/env bash
# The paper's GRPO on CountDown, same mixture.
# Settings and reasons: configs/qwen2_5_moe_countdown_grpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   gmpo-vl train configs/qwen2_5_moe_countdown_grpo.yaml data.val_files=data/countdown/test.parquet trainer.val_only=true worker.actor.model.model_path=MODEL trainer.save_checkpoint_path=runs/qwen2_5_moe_countdown_grpo_test
source "$(dirname "$0")/_run.sh"
