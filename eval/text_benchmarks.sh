#!/usr/bin/env bash
# AIME24, AMC, MATH500, Minerva and OlympiadBench, one greedy answer each: the paper's Tables 1a and 2.
#   bash eval/text_benchmarks.sh MODEL [OUT [options, such as --template r1]]     templates: qwen_math, no, r1, chat
# The five files come from: python data_prep/text_benchmarks.py EVALUATION_SUITE data/text   (elsewhere: --data FOLDER)
# vLLM answers where it is installed and there is a GPU; BACKEND=transformers (or --backend transformers) decides otherwise.
set -euo pipefail
: "${1:?usage: bash eval/text_benchmarks.sh MODEL [OUT [options of gmpo-vl eval]]}"
gmpo-vl eval "$1" --protocol text --backend "${BACKEND:-auto}" ${2:+--out "$2"} "${@:3}"
