"""What a file that cannot run is refused with."""

from pathlib import Path

import pytest

from gmpo_vl.config import ConfigError, load_config


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)
