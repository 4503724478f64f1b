"""How a configuration's run is trained: `local` in one process, `easyr1` over EasyR1's workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmpo_vl.config import Config


def trainer_of(config: Config) -> Callable[[Config], Any]:
    """`train` of the configuration's engine. Raises ValueError where that is not installed."""
    if config.engine == "easyr1":
        from gmpo_vl.engines.easyr1.compatibility import require_easyr1

        require_easyr1()
        from gmpo_vl.engines.easyr1.driver import train
    else:
        from gmpo_vl.engines.local.engine import train
    return train


def train(config: Config) -> None:
    """Train as the configuration says; what comes of it lies in the run's folder."""
    trainer_of(config)(config)
