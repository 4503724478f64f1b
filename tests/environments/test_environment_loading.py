"""Environments are found by name, file or module, and a mistake in a setting is told before anything runs."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from gmpo_vl.data.templates import TemplateError
from gmpo_vl.environments.guarded import Guarded
from gmpo_vl.environments.isolated import Isolated, Isolation
from gmpo_vl.environments.loading import load_environment
from gmpo_vl.types import Example

HERE = Path(__file__).parent
GAMES = str(HERE / "user_games.py")
ROW = Example("a", "ten", "", game="")


def test_importing_the_contract_loads_neither_torch_nor_pillow():
    code = (
        "import sys, gmpo_vl.environments, gmpo_vl.environments.loading\n"
        "print([m for m in ('torch', 'transformers', 'PIL', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_s_class_with_its_settings_and_template():
    make = load_environment(f"{GAMES}:Choosy", {"most": 3})
    assert make.template.startswith("{{ observation }} ({{ step }})")
    assert make.processes is None
    game = make(ROW)
    assert isinstance(game, Guarded)
    assert all(int(game.reset(seed).text.split()[1]) <= 3 for seed in range(20))


def test_a_module_s_class(monkeypatch, tmp_path):
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "games.py").write_text((HERE / "user_games.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    make = load_environment("house.games:Counting")
    assert make(ROW).reset(1) == load_environment(f"{GAMES}:Counting")(ROW).reset(1)
    assert make.template == load_environment("gridworld").template


def test_a_class_or_the_caller_asks_for_a_process():
    loaded = [
        load_environment(f"{GAMES}:Isolated"),
        load_environment(f"{GAMES}:Choosy", {"most": 101}),
        load_environment(f"{GAMES}:Counting", isolate=True),
        load_environment(f"{GAMES}:Counting", isolate=Isolation(games=7)),
    ]
    assert [make.processes.isolation.games for make in loaded] == [2, 100, 100, 7]
    assert all(isinstance(make(ROW), Isolated) for make in loaded)
    assert load_environment(f"{GAMES}:Isolated", isolate=False).processes is None


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("alfwold", {}, "no environment is called 'alfwold'; did you mean alfworld?"),
        ("alfworld", {"backend": "text"}, "there is no backend 'text'"),
        ("alfworld", {"games": "x"}, "only the backend textworld reads game files"),
        ("alfworld", {"backend": "textworld", "games": "no/such"}, "games: 'no/such' is no folder"),
        ("gridworld", {"view": 0}, "view: 0 is no number of cells"),
        ("gridworld", {"veiw": 2}, r"takes \['view'\], not \['veiw'\]; did you mean view\?"),
        (f"{GAMES}:Choosy", {"most": 0}, "most: 0 is below 1"),
        (f"{GAMES}:ExitsLoading", {}, r"user_games.py:ExitsLoading': it called sys.exit\(3\)"),
        (f"{HERE / 'exits.py'}:Any", {}, r"exits.py, line 3 raised SystemExit: 4"),
        (f"{GAMES}:Countin", {}, "has no class 'Countin'; did you mean Counting?"),
        (GAMES, {}, "name a class of .*user_games.py, as FILE.py:NAME"),
        (f"{GAMES}:Unfinished", {}, r"the class has no step\(\)"),
        ("no/such.py:Game", {}, "there is no file .*no/such.py"),
        ("no_such_module:Game", {}, "no_such_module cannot be imported"),
        (7, {}, "an environment is named by a text"),
    ],
)
def test_a_mistake_is_told(name, settings, said):
    with pytest.raises(ValueError, match=said):
        load_environment(name, settings)


def test_a_template_of_one_s_own(tmp_path):
    mine = tmp_path / "mine.jinja"
    mine.write_text("{{ task }} {{ observation }} {% for turn in history %}{{ turn.action }}{% endfor %}")
    assert load_environment("gridworld", template=str(mine)).template.startswith("{{ task }} {{ obs")
    for text, said in (
        ("{{ task }}", "must show its observation once"),
        ("{{ observation }}", "must show the actions taken"),
        ("{{ observation }} <image>", "take <image> out"),
        ("{{ observation }} {{ obervations }}", "'obervations' is undefined"),
        ("{{ observation", "cannot be rendered"),
    ):
        mine.write_text(text)
        with pytest.raises(TemplateError, match=said):
            load_environment("gridworld", template=str(mine))
    with pytest.raises(
        TemplateError, match=r"there is no file .*nowhere; give a path, or one of alfworld, turn"
    ):
        load_environment("gridworld", template="nowhere")


@pytest.mark.skipif(importlib.util.find_spec("textworld") is not None, reason="TextWorld is installed")
def test_textworld_that_is_not_installed_is_named_with_its_extra(tmp_path):
    with pytest.raises(ModuleNotFoundError, match=r"needs textworld: pip install 'gmpo-vl\[alfworld\]'"):
        load_environment("alfworld", {"backend": "textworld", "games": str(tmp_path)})
