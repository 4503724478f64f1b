"""gmpo_vl's rewards in ms-swift (tested with 4.6.0).

    swift rlhf --rlhf_type grpo --external_plugins THIS_FILE --reward_funcs gmpo_vl_geometry3k ...

Every built-in reward is `gmpo_vl_NAME`, its parts `gmpo_vl_NAME_accuracy` and `gmpo_vl_NAME_format`. A plugin
of one's own that says `from gmpo_vl.plugins.swift import register` adds others.
"""

from __future__ import annotations

import importlib
import os
import sys
from itertools import chain
from typing import Any

# ms-swift puts a plugin's folder first on the path, and a spawned process gets that path: there trl.py and
# verl.py would hide the packages.
_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != _HERE]

from gmpo_vl.plugins.column_rewards import reward  # noqa: E402
from gmpo_vl.rewards.loading import built_in_rewards  # noqa: E402

_swift: Any = importlib.import_module("swift.rewards")


def register(
    name: str, spec: str, *, part: str = "overall", answers: str = "solution", **options: Any
) -> None:
    """Make a reward known to `--reward_funcs` as `name`; the rest as `column_rewards.reward` takes it.

    The reward is loaded, and its options are checked, when a trainer is made that uses it.
    """

    class Reward(_swift.ORM):
        def __init__(self, args: Any = None, **kwargs: Any) -> None:
            super().__init__(args, **kwargs)
            self._reward = reward(spec, part=part, answers=answers, name=name, **options)

        def __call__(
            self, completions: list[str], response_token_ids: list[Any] | None = None, **columns: Any
        ) -> list[float | None]:
            if response_token_ids and all(response_token_ids):  # an engine may give text alone
                columns["completion_ids"] = [_all_turns(ids) for ids in response_token_ids]
            return self._reward.score(completions, **columns)

    Reward.__name__ = Reward.__qualname__ = name  # ms-swift's metrics are called so
    _swift.orms[name] = Reward


def _all_turns(ids: list[Any]) -> list[int]:
    """The tokens of a response: ms-swift has a list of them, and a list of lists after several turns."""
    return list(chain(*ids)) if isinstance(ids[0], list) else ids


for _name in built_in_rewards():
    register(f"gmpo_vl_{_name}", _name)
    for _part in ("accuracy", "format"):
        register(f"gmpo_vl_{_name}_{_part}", _name, part=_part)
