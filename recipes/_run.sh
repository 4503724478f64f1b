# What every recipe does: `gmpo-vl train` with the configuration of the recipe's own name.
#   bash recipes/NAME.sh --dry-run      check everything, print the plan, train nothing
#   bash recipes/NAME.sh [a.b=c ...]    the same command goes on where a run stopped
# Afterwards, once, on the test set:
#   gmpo-vl export runs/NAME/checkpoints/step_N MODEL, and then the line that the recipe says
set -euo pipefail
cd "$(dirname "$0")/.."
exec gmpo-vl train "configs/$(basename "$0" .sh).yaml" "$@"
