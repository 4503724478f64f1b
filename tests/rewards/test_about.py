"""What is said about the built-in rewards is whole, and docs/rewards.md is what the code says."""

from pathlib import Path

import pytest

from gmpo_vl.cli import main
from gmpo_vl.cli.rewards import markdown
from gmpo_vl.rewards.about import OPTIONS, PARTS, describe
from gmpo_vl.rewards.loading import built_in_rewards

PAGE = Path(__file__).parents[2] / "docs" / "rewards.md"


def test_the_page_is_what_the_rewards_say():
    made = markdown([describe(name) for name in built_in_rewards()])
    assert PAGE.read_text() == made, "gmpo-vl rewards --markdown > docs/rewards.md"


@pytest.mark.parametrize("name", built_in_rewards())
def test_all_is_said_once_and_of_what_there_is(name, capsys):
    one = describe(name)
    options = {option.name for option in one.options}
    assert set(one.about.options) <= options - OPTIONS.keys()
    assert set(one.about.parts) <= set(one.parts)
    assert all(one.about.parts[part] != PARTS.get(part) for part in one.about.parts)
    assert all(score.keys() == one.parts.keys() for _, _, score in one.examples)
    assert max(score["overall"] for _, _, score in one.examples) > 0.5
    assert main(["rewards", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert {line.split()[0] for line in lines if line.startswith("  ")} >= options | set(one.parts)


def test_the_command_lists_them_and_knows_the_nearest(capsys):
    assert main(["rewards"]) == 0
    said = capsys.readouterr().out
    assert [
        line.split()[0] for line in said.split("\n\n")[0].splitlines() if line[0] != " "
    ] == built_in_rewards()
    assert main(["rewards", "geometri3k"]) == 2
    assert "did you mean geometry3k?" in capsys.readouterr().err
