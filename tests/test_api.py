"""The names that `gmpo_vl` itself offers."""

import subprocess
import sys
from pathlib import Path

import pytest

import gmpo_vl


@pytest.mark.parametrize("name", gmpo_vl.API)
def test_a_name_is_the_module_s_own_and_says_what_it_is(name):
    offered = getattr(gmpo_vl, name)
    assert offered.__name__ == name
    assert offered.__doc__
    assert name in dir(gmpo_vl)


def test_no_name_is_a_room_s_and_others_are_refused():
    rooms = {path.stem for path in Path(gmpo_vl.__file__).parent.iterdir()}
    assert not rooms & set(gmpo_vl.API)
    with pytest.raises(AttributeError, match="has no attribute 'load_confg'"):
        _ = gmpo_vl.load_confg


def test_importing_loads_nothing_heavy():
    code = "import gmpo_vl, sys; gmpo_vl.load_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
