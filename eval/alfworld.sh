#!/usr/bin/env bash
# ALFWorld's valid_seen (140 games) and valid_unseen (134), an episode each at temperature 0.4: the paper's Table 6, by category.
#   bash eval/alfworld.sh MODEL [OUT [options of gmpo-vl eval]]
# The two files come from: python data_prep/alfworld.py GAMES data/alfworld   (elsewhere: --data FOLDER). Killed? The same command goes on.
# Several episodes of each game: --n 4. Beside the paper's rows: gmpo-vl eval table OUT.
# vLLM answers where it is installed and there is a GPU; BACKEND=transformers (or --backend transformers) decides otherwise.
set -euo pipefail
: "${1:?usage: bash eval/alfworld.sh MODEL [OUT [options of gmpo-vl eval]]}"
gmpo-vl eval "$1" --protocol alfworld --backend "${BACKEND:-auto}" ${2:+--out "$2"} "${@:3}"
