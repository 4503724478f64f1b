"""A mixture of experts (Qwen2-MoE) made of a dense Qwen2 or Qwen2.5.

    python recipes/build_moe.py Qwen/Qwen2.5-0.5B-Instruct models/qwen2_5_0_5b_moe
    python recipes/build_moe.py FOLDER models/small_moe --experts-from random --expert-width 512 \\
        hidden_size=512 num_hidden_layers=12

8 experts, 1 active by default, beside a shared expert that every token passes: the dense MLP itself, through
a gate that starts at a half. Experts are copies of the dense MLP with a little noise, scaled so that the
mixture starts out as the dense model, or random. norm_topk_prob is off: with one active expert it would take
the router's gradient away (gmpo_vl/models/moe.py). A FOLDER with config.json and tokenizer alone gives an
untrained mixture, whose sizes KEY=VALUE can change.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from gmpo_vl.models.loading import model_folder
from gmpo_vl.models.moe import MoeSettings, build_moe


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("dense", help="a folder, or a hub id")
    add("out", help="folder for the mixture")
    add("--experts", type=int, default=8, help="experts of a layer (default 8)")
    add("--active", type=int, default=1, help="experts a token goes to (default 1)")
    add(
        "--experts-from",
        choices=("copies", "random"),
        default="copies",
        help="how experts start (default copies)",
    )
    add("--expert-width", type=int, help="of random experts (default: the dense MLP's)")
    add(
        "--noise",
        type=float,
        default=0.01,
        help="added to copies, in standard deviations of the matrix (default 0.01)",
    )
    add("--seed", type=int, default=0, help="of noise, random experts and routers (default 0)")
    add(
        "changes",
        nargs="*",
        metavar="KEY=VALUE",
        help="of the dense config.json, where the folder has no weights",
    )
    options = parser.parse_args(arguments)
    try:
        settings = MoeSettings(
            experts=options.experts,
            active=options.active,
            experts_from=options.experts_from,
            expert_width=options.expert_width,
            noise=options.noise,
            seed=options.seed,
        )
        changes = dict(map(change_of, options.changes))
        out = build_moe(model_folder(options.dense), options.out, settings, **changes)
    except (ValueError, OSError) as error:
        parser.exit(2, f"build_moe: {error}\n")
    print(f"{out}: {options.experts} experts, {options.active} active, beside a shared one")


def change_of(text: str) -> tuple[str, Any]:
    """(key, value) of KEY=VALUE."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        raise ValueError(
            f"{text!r}: not KEY=VALUE with a value as in config.json, such as hidden_size=512"
        ) from None


if __name__ == "__main__":
    main()
