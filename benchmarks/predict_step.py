"""What will computing each picture and prompt once per group save with my data and my model?

    python benchmarks/predict_step.py CONFIG [a.b=c ...]

Reads the configuration, encodes some prompts as the run would, and counts the operations of a step
(sizing/cost.py), once with every rollout alone and once with prompts shared as the run's own limits allow. No
weights are loaded and nothing is timed; how near an update comes to its share is what `make bench-step`
measures. (`gmpo-vl doctor` says it too, among all the rest.)
"""

from __future__ import annotations

import argparse

from gmpo_vl.config import load_config
from gmpo_vl.data.examples import EpochOrder
from gmpo_vl.models.loading import model_config, model_folder
from gmpo_vl.models.processing import load_processor
from gmpo_vl.progress import quiet_libraries
from gmpo_vl.setup import load_split
from gmpo_vl.sizing.budget import with_fitting_tokens
from gmpo_vl.sizing.cost import rates
from gmpo_vl.sizing.estimate import PromptLengths
from gmpo_vl.sizing.limits import pass_limits
from gmpo_vl.sizing.sharing import PROMPTS, gain_table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="keys that replace those of the file")
    options = parser.parse_args()
    quiet_libraries()
    config = load_config(options.config, options.overrides)
    model = config.worker.actor.model
    folder = model_folder(str(model.model_path))
    processor = load_processor(folder, config.data.override_chat_template)

    split = load_split(config, config.data.train_files, processor)
    chosen = EpochOrder(len(split), config.data.seed).take(0, min(PROMPTS, len(split)))
    prompts = [
        PromptLengths(len(prompt.ids_P), tuple(map(tuple, prompt.image_grid_thw.tolist())))
        for prompt in split.encode(chosen)
    ]
    tokens = sum(prompt.tokens for prompt in prompts) / len(prompts)
    patches = sum(t * h * w for prompt in prompts for t, h, w in prompt.grids) / len(prompts)
    print(
        f"{len(prompts)} prompts: {tokens:.0f} tokens and {patches:.0f} patches on average, "
        f"{config.worker.rollout.n} answers each"
    )
    fitted = with_fitting_tokens(config, split).config
    of = rates(model_config(folder, **model.override_config))
    print("\n".join(gain_table(config, of, prompts, pass_limits(fitted, "shared"))))


if __name__ == "__main__":
    main()
