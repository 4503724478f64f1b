#!/usr/bin/env bash
# A small mixture of experts (8 experts, 1 active), made of Qwen2.5-0.5B, on CountDown with GMPO (Table 7).
# Settings and reasons: configs/qwen2_5_moe_countdown_gmpo.yaml. Afterwards, once, the test set (recipes/README.md):
#   gmpo-vl train configs/qwen2_5_moe_countdown_gmpo.yaml data.val_files=data/countdown/test.parquet trainer.val_only=true worker.actor.model.model_path=MODEL trainer.save_checkpoint_path=runs/qwen2_5_moe_countdown_gmpo_test
source "$(dirname "$0")/_run.sh"
