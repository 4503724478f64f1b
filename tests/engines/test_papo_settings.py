"""PAPO as it is written: what a run refuses of it, and what the plan says."""

import json

import pytest

from gmpo_vl.cli import main
from gmpo_vl.config import ConfigError

FIRST_ALONE = ["algorithm.papo.kl_prcp_coef=0.5"]
PAPO = [*FIRST_ALONE, "algorithm.papo.ori_entropy_loss_coef=0.03"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["black_prob=0.3"], "black_prob is 0.3 (override 'algorithm.papo.black_prob=0.3'): a part of PAPO"),
        (["kl_prcp_coef=0.01", "black_prob=0"], "between 0 and 1, and above 0"),
        (["kl_prcp_coef=0.01", "patch_size=0"], "must be greater than 0"),
        (["kl_prcp_coef=0.01", "kl_prcp_clipping=0"], "must be greater than 0"),
        (["kl_prcp_coef=-0.01"], "must be 0 or greater"),
        (
            ["kl_prcp_coef=0.01", "masked_gradient=false", "aug_entropy_loss_coef=0.03"],
            "this entropy has a gradient under algorithm.papo.masked_gradient: true alone",
        ),
    ],
)
def test_what_does_nothing_is_refused(make_config, settings, says):
    with pytest.raises(ConfigError, match=r"algorithm\.papo") as refused:
        make_config(*(f"algorithm.papo.{setting}" for setting in settings))
    assert says in str(refused.value)


def test_what_works_against_it_or_has_no_place_for_it_is_refused(make_config):
    with pytest.raises(ConfigError, match="the first lowers the entropy that the second raises"):
        make_config(*PAPO, "worker.actor.entropy_coef=0.01")
    with pytest.raises(ConfigError, match="EasyR1's own losses have no PAPO"):
        make_config(*PAPO, "engine=easyr1", "worker.actor.loss_type=easyr1/default")


def test_data_without_a_picture_are_refused_before_the_model_is_loaded(
    config_file, overrides, tmp_path, capsys
):
    rows = [{"problem": f"What is {i} + 2?", "answer": str(i + 2), "images": []} for i in range(8)]
    (tmp_path / "text.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = [*PAPO, f"data.train_files={tmp_path / 'text.jsonl'}"]
    for more in ([], ["--dry-run"]):
        assert main(["train", str(config_file), *overrides, *text, *more]) == 2
        said = capsys.readouterr().err
        assert "no row of data.train_files has a picture" in said
        assert "Loading weights" not in said


def test_the_plan_names_it(config_file, overrides, capsys):
    assert main(["train", str(config_file), *overrides, *FIRST_ALONE, "--dry-run"]) == 0
    assert "PAPO: kl_prcp_coef 0.5, kl_prcp_clipping 10, black_prob 0.6" in capsys.readouterr().out
