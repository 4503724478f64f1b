"""A user's objective on engine easyr1: the built-in's gradient where the formula is the same, on one rank and
on two."""

import os

import pytest

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

import runpy
from pathlib import Path

from ranks import make_groups, run_ranks, train

from gmpo_vl.engines.easyr1.config import with_absolute_paths

LR = 0.05
MORE = ["worker.actor.max_grad_norm=1.0e+9", "worker.actor.global_batch_size=4", "data.rollout_batch_size=8"]
# Eq. 5 written plainly, and the like with weights and statistics of the mini-batch.
GMPO = runpy.run_path(str(Path(__file__).parents[1] / "engines" / "test_own_objective_on_local.py"))["GMPO"]


def relative(a, b):
    return float((a - b).norm() / b.norm())


def in_order_for_two(config, groups):
    size = config.worker.actor.global_batch_size
    batches = [groups[start : start + size] for start in range(0, len(groups), size)]
    return [group for rank in range(2) for batch in batches for group in batch[rank::2]]


@pytest.fixture
def loss_file(tmp_path):
    path = tmp_path / "my_loss.py"
    path.write_text(GMPO)
    return path


def test_the_built_in_s_formula_in_a_file_gives_the_built_in_s_gradient(make_config, loss_file):
    [(want, figures)] = run_ranks(1, train, make_config(*MORE), make_groups(make_config(*MORE)), LR)
    config = make_config(*MORE, f"worker.actor.loss_type={loss_file}:gmpo")
    [(got, my_figures)] = run_ranks(1, train, config, make_groups(config), LR)
    assert len(got) == len(want) == 2
    assert relative(got[0], want[0]) < 1e-12
    assert relative(got[1], want[1]) < 1e-6  # at other weights, by the last digits
    assert my_figures["actor/pg_loss"] == pytest.approx(figures["actor/pg_loss"], rel=1e-9)


def test_weights_and_statistics_are_of_the_mini_batch_of_all_ranks(make_config, loss_file):
    more = [*MORE, f"worker.actor.loss_type={loss_file}:scaled"]
    config, both = make_config(*more), make_config(*more, "trainer.n_gpus_per_node=2")
    groups = make_groups(config)
    [(one, figures)] = run_ranks(1, train, config, groups, LR)
    (two, of_both), (second, _) = run_ranks(2, train, both, in_order_for_two(config, groups), LR)
    for update in range(2):
        assert relative(two[update], one[update]) < 1e-6
        assert relative(second[update], two[update]) == 0
    assert of_both["actor/pg_loss"] == pytest.approx(figures["actor/pg_loss"], rel=1e-9)


def test_workers_find_the_file_wherever_they_run(make_config, loss_file, monkeypatch):
    monkeypatch.chdir(loss_file.parent)
    config = make_config("worker.actor.loss_type=my_loss.py:gmpo")
    assert with_absolute_paths(config).worker.actor.loss_type == f"{os.getcwd()}/my_loss.py:gmpo"
    assert config.worker.actor.loss_type == "my_loss.py:gmpo"
    installed = make_config("worker.actor.loss_type=gmpo_vl.policy.own:gmpo")
    assert with_absolute_paths(installed).worker.actor.loss_type == "gmpo_vl.policy.own:gmpo"
