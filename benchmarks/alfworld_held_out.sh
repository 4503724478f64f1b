#!/usr/bin/env bash
# ALFWorld's held-out games, beside what configs/study/alfworld.yaml plays itself: the model that training starts from, and at
# temperature 0.4 that model and all trained ones. Run it after the study, from the repository's root. For benchmarks/alfworld_table.py.
#   bash benchmarks/alfworld_held_out.sh runs/studies/alfworld runs/alfworld_held_out
set -euo pipefail
study=$1 out=$2
mkdir -p "$out/rows"
cp data/alfworld/valid_seen.parquet data/alfworld/valid_unseen.parquet "$out/rows"

play() { # NAME MODEL SEED TEMPERATURE
    [ -e "$out/$1/seed$3/done" ] && return
    gmpo-vl train configs/alfworld_tiny_cpu.yaml trainer.val_only=true trainer.val_generations_to_log=1000000 \
        data.val_files="$out/rows@validation" worker.actor.model.model_path="$2" worker.rollout.seed="$3" \
        worker.rollout.val_override_config="{n: 1, temperature: $4}" trainer.save_checkpoint_path="$out/$1/seed$3"
    touch "$out/$1/seed$3/done"
}

for seed in 1 2 3; do
    play start runs/alfworld_player "$seed" 1.0
    play cool/start runs/alfworld_player "$seed" 0.4
    for cell in grpo/turns gmpo/turns grpo/episodes gmpo/episodes; do
        play "cool/$cell" "$study/runs/final/$cell/seed$seed/checkpoints/step_000005/huggingface" "$seed" 0.4
    done
done
