#!/usr/bin/env bash
# Does it work on this GPU? A line PASS, FAIL or SKIPPED for each of: attention kernels, the shared forward (exact, time, memory),
# passes under nccl, checkpoints, a step of engine local; without --core also engine easyr1 with LoRA, its resume and export, and
# evaluation with vLLM. Random weights built on the spot, nothing is downloaded. Exit code 1 where a line is FAIL.
#   bash recipes/accept_1gpu.sh --core            # torch >= 2.8, transformers >= 4.57 and Pillow suffice; at most 6 minutes, Ampere or later, from 16 GB
#   bash recipes/accept_1gpu.sh [--out FOLDER]    # all of it, in EasyR1's image: about 15 minutes
# Ends with a block to send back; page, JSON and logs are in runs/accept_1gpu. Without a GPU a small version runs on the CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONPATH="$PWD:$PWD/recipes:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m acceptance "$@"
