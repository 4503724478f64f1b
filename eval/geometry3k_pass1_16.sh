#!/usr/bin/env bash
# 16 answers to each Geometry3K test question at temperature 0.5: the paper's Pass@1 (Table 1b), with its interval.
#   bash eval/geometry3k_pass1_16.sh MODEL [OUT [options of gmpo-vl eval]]
# One process a GPU: add --workers 8. Killed? The same command goes on.
# A local copy of Geometry3K: --data FILE --grader paper. Data of your own: gmpo-vl eval MODEL --data FILE.
# vLLM answers where it is installed and there is a GPU; BACKEND=transformers (or --backend transformers) decides otherwise.
set -euo pipefail
: "${1:?usage: bash eval/geometry3k_pass1_16.sh MODEL [OUT [options of gmpo-vl eval]]}"
gmpo-vl eval "$1" --protocol geometry3k --backend "${BACKEND:-auto}" ${2:+--out "$2"} "${@:3}"
