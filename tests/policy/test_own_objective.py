"""An objective of one's own: it is ours where the formula is, and what cannot be right is refused before a
run."""

import sys
from pathlib import Path

import pytest
import torch

from gmpo_vl.config import ConfigError, load_config
from gmpo_vl.policy import StepDiagnostics, per_sequence_loss, reduce_loss, total_weight
from gmpo_vl.policy.own import load_objective

EXAMPLES = Path(__file__).parents[2] / "examples" / "my_objective.py"
ARGUMENTS = "log_probs_BT, old_log_probs_BT, mask_BT, advantages_B"

# Eq. 5 written plainly.
GMPO = f"""
import torch

def gmpo({ARGUMENTS}, low=0.4, high=0.4):
    log_ratio_BT = log_probs_BT - old_log_probs_BT
    up_B1 = (advantages_B > 0)[:, None]
    clipped_BT = torch.where(up_B1, log_ratio_BT.clamp(max=high), log_ratio_BT.clamp(min=-low))
    return -advantages_B * ((clipped_BT * mask_BT).sum(-1) / mask_BT.sum(-1).clamp(min=1)).exp()
"""
PLAIN = "-(advantages_B[:, None] * log_probs_BT * mask_BT).sum(-1)"


@pytest.fixture
def own(tmp_path):
    """FILE.py:mine with this body, or these lines of a file."""

    def write(body: str, parameters: str = ARGUMENTS, more: str = "") -> str:
        path = tmp_path / "my_loss.py"
        path.write_text(f"import torch\n\ndef mine({parameters}):\n    {body}\n\n{more}\n")
        return f"{path}:mine"

    return write


def batch(seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    lengths_B = torch.tensor([3, 17, 1, 9, 0, 5, 2, 20])
    mask_BT = torch.arange(20) < lengths_B[:, None]
    old_BT = -torch.rand(8, 20, generator=draw, dtype=torch.float64)
    new_BT = old_BT + 0.4 * torch.randn(8, 20, generator=draw, dtype=torch.float64)
    return new_BT, old_BT, mask_BT, torch.randn(8, generator=draw, dtype=torch.float64)


def found(objective, **settings):
    new_BT, old_BT, mask_BT, advantages_B = batch()
    new_BT = new_BT.where(mask_BT, torch.nan).requires_grad_()
    loss = per_sequence_loss(
        objective, new_BT, old_BT.where(mask_BT, -torch.inf), mask_BT, advantages_B, **settings
    )
    (loss.loss_B * loss.weight_B).sum().backward()
    assert new_BT.grad is not None
    return loss, new_BT.grad


def test_eq_5_in_a_file_is_gmpo_in_loss_gradient_and_figures(tmp_path):
    (tmp_path / "my.py").write_text(GMPO)
    mine, my_gradient = found(load_objective(f"{tmp_path / 'my.py'}:gmpo", {"low": 0.2}))
    ours, gradient = found("gmpo", log_clip_low=0.2)
    weighted = [loss.loss_B * loss.weight_B for loss in (mine, ours)]  # a row without tokens weighs nothing
    torch.testing.assert_close(*weighted, rtol=1e-13, atol=0)
    torch.testing.assert_close(my_gradient, gradient, rtol=1e-12, atol=0)
    assert torch.equal(mine.weight_B, ours.weight_B)
    figures = []
    for loss in (mine, ours):
        step = StepDiagnostics()
        step.add(loss)
        figures.append(step.result())
    for name in ("high_neg", "low_pos"):  # where a clip has its limits is known of ours alone
        del figures[0][f"actor/clip_fraction_{name}"], figures[1][f"actor/clip_fraction_{name}"]
    assert figures[0] == pytest.approx(figures[1], rel=1e-12)
    assert figures[0]["actor/pg_clipfrac_higher"] > 0


def test_sequences_may_weigh_differently_and_a_ratio_may_be_detached():
    """CISPO of examples/: where no ratio is cut its gradient is DAPO's without a clip."""
    cispo, gradient = found(load_objective(f"{EXAMPLES}:cispo", {"ratio_max": 1e9}))
    dapo, of_dapo = found("dapo", clip_ratio_low=1.0, clip_ratio_high=1e9)
    assert torch.equal(cispo.weight_B, dapo.weight_B)
    torch.testing.assert_close(gradient, of_dapo, rtol=1e-12, atol=1e-15)
    assert torch.equal(cispo.diagnostics.gradient_BT, gradient)


def test_an_option_changes_the_loss_and_ours_can_be_built_upon(own):
    body = (
        "return OBJECTIVES['gmpo'](log_probs_BT, old_log_probs_BT, mask_BT, advantages_B, log_clip_high=clip)"
    )
    spec = own(body, f"{ARGUMENTS}, clip", "from gmpo_vl.policy.objectives import OBJECTIVES")
    for clip in (0.1, 0.5):
        assert torch.equal(
            found(load_objective(spec, {"clip": clip}))[1], found("gmpo", log_clip_high=clip)[1]
        )
    assert load_objective(spec, {"clip": 0.1}).settings == {"clip": 0.1}
    assert load_objective(f"{EXAMPLES}:cispo", {}).settings == {"ratio_max": 1.28}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"return ({PLAIN}).log()", "loss_B is not finite"),
        (f"return {PLAIN} / mask_BT.sum(-1)", "loss_B of a row without tokens is not finite"),
        (f"return ({PLAIN}).sum()", "loss_B is one number, a scalar"),
        (f"return {PLAIN}, torch.ones(8, 2)", r"weight_B is torch.float64 of shape \(8, 2\)"),
        ("return None", "loss_B is a NoneType"),
        (f"return ({PLAIN}).detach()", "its loss has no gradient"),
        (f"return 0.0 * {PLAIN}", "its gradient is 0 everywhere"),
        (f"return {PLAIN} - log_probs_BT.mean(-1)", "a row without tokens .* has a gradient"),
        (
            f"return {PLAIN} - log_probs_BT.mean(-1) * mask_BT.any(-1)",
            "log-probs where the mask is 0 have a gradient",
        ),
        (f"return {PLAIN} / mask_BT.shape[1]", "depends on how far it is padded"),
        (f"return {PLAIN} * (advantages_B - advantages_B.mean())", "depends on the rows beside it"),
        (f"return {PLAIN} * torch.rand(())", "another result the second time"),
        (f"return {PLAIN}, -mask_BT.sum(-1).double()", "weight_B is negative"),
        (f"return {PLAIN}, (log_probs_BT * mask_BT).sum(-1).exp()", "weight_B depends on log_probs_BT"),
        (f"advantages_B *= 2.0; return {PLAIN}", "it changes its arguments"),
        ("return log_probs_BT @ advantages_B", "my_loss.py, line 4 raised RuntimeError"),
        ("return missing", "my_loss.py, line 4 raised NameError"),
        ("raise SystemExit(1)", "my_loss.py, line 4 raised SystemExit: 1"),
    ],
)
def test_what_cannot_be_right_is_refused_by_file_and_function(own, body, message):
    with pytest.raises(ValueError, match=message) as error:
        load_objective(own(body), {})
    assert "worker.actor.loss_type=" in str(error.value)
    assert "my_loss.py:mine" in str(error.value)


def test_weights_may_be_whole_numbers_and_an_inner_gradient_may_be_taken(own):
    body = f"""
    (slope_BT,) = torch.autograd.grad(log_probs_BT.sum(), log_probs_BT, retain_graph=True)
    return {PLAIN} * slope_BT.max().detach(), mask_BT.sum(-1)"""
    objective = load_objective(own(body), {})
    _, old_BT, mask_BT, advantages_B = batch()
    assert torch.equal(objective.of_mini_batch(old_BT, mask_BT, advantages_B)[1], mask_BT.sum(-1).double())


def test_too_few_arguments_and_what_a_file_adds_to_the_path(own, tmp_path):
    with pytest.raises(ValueError, match=r"mine\(log_probs_BT\) must take \(log_probs_BT, old_log_probs_BT"):
        load_objective(own("return log_probs_BT.sum(-1)", "log_probs_BT"), {})
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/found_later.py").write_text("ONE = 1.0\n")
    body = f"""
    from found_later import ONE
    return ONE * ({PLAIN})"""
    head = "import sys, pathlib; sys.path.append(str(pathlib.Path(__file__).parent / 'lib'))"
    load_objective(own(body, ARGUMENTS, head), {})
    sys.path.remove(str(tmp_path / "lib"))


def test_what_cannot_be_loaded_is_said(own, tmp_path):
    spec = own(f"return {PLAIN}", f"{ARGUMENTS}, alpha, beta=1.0")
    for given, options, message in (
        (spec, {}, r"needs \['alpha'\]"),
        (spec, {"alpha": 1, "gamma": 2}, r"takes \['alpha', 'beta'\], not \['gamma'\]"),
        (f"{tmp_path}/gone.py:mine", {}, "there is no file"),
        (spec.replace(":mine", ":yours"), {}, "has no function 'yours'"),
        ("gmpo_vl.policy.nothing:mine", {}, "gmpo_vl.policy.nothing cannot be imported: ModuleNotFoundError"),
    ):
        with pytest.raises(ValueError, match=message):
            load_objective(given, options)
    for text, message in (("def mine(:", "cannot be loaded"), ("1 / 0", "line 1 raised ZeroDivisionError")):
        (tmp_path / "my_loss.py").write_text(text)
        with pytest.raises(ValueError, match=message):
            load_objective(spec, {})


def test_an_edited_file_is_read_anew_and_leaves_nothing_beside_it(own):
    spec = own(f"return 1.0 * {PLAIN}")
    once = found(load_objective(spec, {}))[1]
    twice = found(load_objective(own(f"return 2.0 * {PLAIN}"), {}))[1]  # of the same size, in the same second
    assert torch.equal(twice, 2 * once)
    assert [path.name for path in Path(spec.partition(":")[0]).parent.iterdir()] == ["my_loss.py"]


def test_nothing_in_the_working_directory_runs(own, tmp_path, monkeypatch, capsys):
    """Where `python -m` puts it first on the path; what PYTHONPATH names does."""
    spec = own(f"return {PLAIN}", more="import stray_objective")
    here = tmp_path / "here"
    here.mkdir()
    (here / "stray_objective.py").write_text("print('ran')\nmine = None\n")
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ValueError, match="the working directory is not searched"):
        load_objective("stray_objective:mine", {})
    with pytest.raises(ValueError, match="No module named 'stray_objective'"):
        load_objective(spec, {})
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("PYTHONPATH", str(here))
    with pytest.raises(ValueError, match="has no function 'mine'"):
        load_objective("stray_objective:mine", {})
    assert capsys.readouterr().out == "ran\n"


# --- statistics
# -------------------------------------------------------------------------------------------------------
def test_statistics_are_of_the_whole_mini_batch_however_it_is_cut():
    new_BT, old_BT, mask_BT, advantages_B = batch()
    whole, weight_B = load_objective(f"{EXAMPLES}:scaled_gmpo", {}).of_mini_batch(
        old_BT, mask_BT, advantages_B
    )
    total = total_weight(weight_B)
    gradients = []
    for parts in ([range(8)], [range(3), range(3, 8)], [[i] for i in range(8)]):
        leaf_BT = new_BT.clone().requires_grad_()
        for rows in map(list, parts):
            loss = per_sequence_loss(whole, leaf_BT[rows], old_BT[rows], mask_BT[rows], advantages_B[rows])
            reduce_loss(loss.loss_B, loss.weight_B, total).backward()
        assert leaf_BT.grad is not None
        gradients.append(leaf_BT.grad)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-12, atol=1e-15)
    scaled_B = advantages_B / advantages_B.square().mean().sqrt()
    leaf_BT = new_BT.clone().requires_grad_()
    loss = per_sequence_loss("gmpo", leaf_BT, old_BT, mask_BT, scaled_B)
    reduce_loss(loss.loss_B, loss.weight_B, total).backward()
    torch.testing.assert_close(gradients[0], leaf_BT.grad, rtol=1e-12, atol=1e-15)


WITH = f"{ARGUMENTS}, statistics"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{'mean': advantages_B.mean()}", "mean is no sum over rows"),
        ("{'rows': advantages_B}", "the same keys and shapes"),
        ("advantages_B.sum()", "return a dict of sums"),
        ("{'name': 'x'}", "numbers or tensors"),
        ("{'n': advantages_B.sum() / 0}", "n is not finite"),
        ("missing", "line 7 raised NameError"),
    ],
)
def test_statistics_that_cannot_be_added_up_over_ranks_are_refused(own, returned, message):
    more = f"def statistics(old_log_probs_BT, mask_BT, advantages_B):\n    return {returned}"
    with pytest.raises(ValueError, match=message):
        load_objective(own(f"return {PLAIN}", WITH, more), {})


def test_statistics_that_nobody_gives_are_refused(own):
    with pytest.raises(ValueError, match="no function of that name"):
        load_objective(own(f"return {PLAIN}", WITH), {})
    with pytest.raises(
        ValueError, match="needs statistics of the whole mini-batch, which are not known here"
    ):
        found(load_objective(f"{EXAMPLES}:scaled_gmpo", {}))


def test_the_examples_cispo_is_ours_with_another_limit():
    """An objective of one's own and ours are the same where the formula is: value, weight and gradient."""
    theirs, gradient_BT = found(load_objective(f"{EXAMPLES}:cispo", {"ratio_max": 1.28}))
    ours, same_BT = found("cispo", clip_ratio_high=0.28)
    torch.testing.assert_close(ours.loss_B, theirs.loss_B, rtol=1e-12, atol=0)
    torch.testing.assert_close(same_BT, gradient_BT, rtol=1e-12, atol=0)
    assert torch.equal(ours.weight_B, theirs.weight_B)


# --- the configuration
# ------------------------------------------------------------------------------------------------
def configured(tmp_path, text: str, *overrides: str):
    base = Path(__file__).parents[2] / "configs" / "ablation" / "base.yaml"
    path = tmp_path / "row.yaml"
    path.write_text(f"base: {base}\nworker:\n  actor: {text}\n")
    return load_config(path, overrides)


def test_a_row_of_an_ablation_names_a_file_and_its_options(own, tmp_path):
    text = f"{{loss_type: '{EXAMPLES}:cispo', loss_options: {{ratio_max: 1.5}}}}"
    actor = configured(tmp_path, text).worker.actor
    assert (actor.loss_type, actor.loss_options) == (f"{EXAMPLES}:cispo", {"ratio_max": 1.5})
    text = "{loss_type: gmpo}"
    more = (f"worker.actor.loss_type={EXAMPLES}:cispo", "worker.actor.loss_options.ratio_max=1.5")
    assert configured(tmp_path, text, *more).worker.actor == actor


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{loss_type: 'gone.py:mine'}", "there is no file gone.py"),
        (f"{{loss_type: '{EXAMPLES}'}}", "is FILE.py:NAME or package.module:NAME"),
        ("{loss_type: 'a b:mine'}", "is FILE.py:NAME or package.module:NAME"),
        (f"{{loss_type: '{EXAMPLES}:cispo', log_clip_low: 0.2}}", "takes its options from .*loss_options"),
        ("{loss_type: gmpo, loss_options: {clip: 0.2}}", "those of gmpo are keys of worker.actor"),
        ("{loss_type: 'easyr1/my.py:mine'}", r"a file of yours would be \./easyr1/my.py:mine"),
    ],
)
def test_what_can_be_known_of_it_is_refused_when_the_configuration_is_read(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        configured(tmp_path, text)


def test_reading_a_configuration_runs_nothing_of_the_file(tmp_path):
    (tmp_path / "loud.py").write_text("raise SystemExit('ran')")
    configured(tmp_path, f"{{loss_type: '{tmp_path / 'loud.py'}:mine'}}")
