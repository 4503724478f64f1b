#!/usr/bin/env bash
# MATH500 for a mixture-of-experts chat model (the paper's Table 1c, Qwen3-32B): one greedy answer in the model's chat template.
#   bash eval/moe_math500.sh MODEL [OUT [options]]
# The paper does not say how its 94.6 and 96.7 were sampled; the result's name says what this does: math500+template=chat.
# vLLM answers where it is installed and there is a GPU; BACKEND=transformers (or --backend transformers) decides otherwise.
# A model that one GPU does not hold: add --tensor-parallel 4.
set -euo pipefail
: "${1:?usage: bash eval/moe_math500.sh MODEL [OUT [options of gmpo-vl eval]]}"
gmpo-vl eval "$1" --protocol math500 --template chat --backend "${BACKEND:-auto}" ${2:+--out "$2"} "${@:3}"
