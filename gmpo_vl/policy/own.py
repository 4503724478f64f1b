"""An objective of one's own, named in `worker.actor.loss_type` as `FILE.py:NAME` or `package.module:NAME`.

    def NAME(log_probs_BT, old_log_probs_BT, mask_BT, advantages_B, **options) -> loss_B or (loss_B, weight_B)

It is called as ours are, with float64 tensors and log-probs of 0 where the mask is 0 (examples/README.md). A
weight may depend on all but log_probs_BT: the sum of all ranks' weights is needed before the first forward.
Two parameters are no options; the host hands them in where the function has them:

    statistics      sums, over the mini-batch on all ranks, of what the file's function `statistics` returns
    gradient_dtype  dtype of the model's log-probs, in which the gradient goes back
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gmpo_vl.user_code import (
    FAILURES,
    check_options,
    failure,
    function_in,
    line_in,
    module_from_file,
    module_from_import,
    taken,
)

Statistics = Mapping[str, Tensor]
_FROM_HOST = ("statistics", "gradient_dtype")
_TOLERANCE = 1e-9  # relative, of two float64 sums of the same terms in another order


@dataclass(frozen=True)
class OwnObjective:
    """A loaded objective. name: as configured. statistics: the file's function, where the objective asks.

    known: what it returned of a mini-batch, summed over all ranks. key: of the configuration, for messages.
    """

    name: str
    function: Callable[..., Any]
    module: ModuleType
    options: Mapping[str, Any] = field(default_factory=dict)
    statistics: Callable[..., Any] | None = None
    known: Statistics | None = None
    key: str = "worker.actor.loss_type"

    def __call__(
        self,
        log_probs_BT: Tensor,
        old_log_probs_BT: Tensor,
        mask_BT: Tensor,
        advantages_B: Tensor,
        gradient_dtype: torch.dtype = torch.float64,
    ) -> tuple[Tensor, Tensor]:
        """loss_B and weight_B, float64; an empty row's weight is 0. ValueError for any other result."""
        if self.statistics is not None and self.known is None:
            raise self.refusal("it needs statistics of the whole mini-batch, which are not known here")
        given = (log_probs_BT, old_log_probs_BT, mask_BT, advantages_B)
        from_host = taken(self.function, {"statistics": self.known, "gradient_dtype": gradient_dtype})
        found = self._call(self.function, *given, **self.options, **from_host)
        loss_B, weight_B = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        loss_B = self._checked("loss_B", loss_B, advantages_B)
        if weight_B is None:
            weight_B = torch.ones_like(advantages_B)
        if isinstance(weight_B, Tensor) and not weight_B.is_complex():  # numbers of tokens, for example
            weight_B = weight_B.double()
        weight_B = self._checked("weight_B", weight_B, advantages_B)
        if log_probs_BT.requires_grad and torch.is_grad_enabled() and not loss_B.requires_grad:
            raise self.refusal("its loss has no gradient: it depends on log_probs_BT only detached, or not")
        return loss_B.double(), weight_B.detach().double() * mask_BT.any(-1)

    def sums(self, old_log_probs_BT: Tensor, mask_BT: Tensor, advantages_B: Tensor) -> Statistics | None:
        """What `statistics` returns for these rows, float64; None where nobody asks for it."""
        if self.statistics is None:
            return None
        old_BT = old_log_probs_BT.double().where(mask_BT, 0.0)
        given = (old_BT, mask_BT, advantages_B.double())
        found = self._call(self.statistics, *given, **taken(self.statistics, self.options))
        if not isinstance(found, Mapping) or not found:
            raise self.refusal(f"statistics returned {found!r}; return a dict of sums over the rows")
        try:
            return {
                key: torch.as_tensor(found[key], dtype=torch.float64, device=old_BT.device) for key in found
            }
        except (TypeError, ValueError, RuntimeError) as error:
            raise self.refusal(f"statistics must be numbers or tensors: {error}") from error

    def of_mini_batch(
        self, old_log_probs_BT: Tensor, mask_BT: Tensor, advantages_B: Tensor
    ) -> tuple[OwnObjective, Tensor]:
        """Itself with the mini-batch's statistics, and each row's weight, float64 (B,), before any forward.

        The rows are this rank's. A collective where torch.distributed runs.
        """
        sums = self.sums(old_log_probs_BT, mask_BT, advantages_B)
        objective = replace(self, known=_over_ranks(sums) if sums is not None else None)
        old_BT = old_log_probs_BT.double().where(mask_BT, 0.0)
        # No weight depends on the new policy: the old one stands for it.
        new_BT = old_BT.clone().requires_grad_()
        return objective, objective(new_BT, old_BT, mask_BT, advantages_B.double())[1]

    @property
    def settings(self) -> dict[str, Any]:
        """Every option with its value, those that nobody set included."""
        optional = list(inspect.signature(self.function).parameters.values())[4:]
        defaults = {p.name: p.default for p in optional if p.default is not p.empty}
        return {key: value for key, value in {**defaults, **self.options}.items() if key not in _FROM_HOST}

    def refusal(self, why: str) -> ValueError:
        return ValueError(f"{self.key}={self.name}: {why}")

    def _checked(self, what: str, value: Any, like_B: Tensor) -> Tensor:
        if isinstance(value, Tensor) and value.shape == like_B.shape and value.is_floating_point():
            return value
        got = f"a {type(value).__name__}"
        if isinstance(value, Tensor):
            got = f"{value.dtype} of shape {tuple(value.shape)}" if value.ndim else "one number, a scalar"
        raise self.refusal(f"{what} is {got}; return loss_B, or (loss_B, weight_B), floats of shape (B,)")

    def _call(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except torch.OutOfMemoryError:
            raise  # the engines say what helps
        except FAILURES as error:
            tried = f" (options: {self.settings})" if self.settings else ""
            where = f"{line_in(self.module, error)} raised {failure(error)}{tried}"
            raise self.refusal(where) from error


def _over_ranks(sums: Statistics) -> Statistics:
    if not (dist.is_available() and dist.is_initialized()):
        return sums
    keys = sorted(sums)
    flat = torch.cat([sums[key].flatten() for key in keys])
    dist.all_reduce(flat)
    parts = flat.split([sums[key].numel() for key in keys])
    return {key: part.view(sums[key].shape) for key, part in zip(keys, parts)}


def load_objective(name: str, options: Mapping[str, Any], key: str = OwnObjective.key) -> OwnObjective:
    """Load and check an objective. key: of the configuration, for messages.

    ValueError where it cannot be loaded, or does not do as it must.
    """
    said = f"{key}={name}"
    place, _, function_name = name.rpartition(":") if ":" in name else (name, "", "")
    if place.endswith(".py"):
        module = module_from_file(Path(place), "objective", said)
    else:
        module = module_from_import(place, said)
    function = function_in(module, function_name, said)
    try:
        inspect.signature(function).bind_partial(*range(4))
    except TypeError:
        takes = "(log_probs_BT, old_log_probs_BT, mask_BT, advantages_B, **options)"
        raise ValueError(f"{said}: {function_name}{inspect.signature(function)} must take {takes}") from None
    check_options(function, 4, options, said, but=_FROM_HOST)
    statistics = None
    if taken(function, {"statistics": None}):
        statistics = getattr(module, "statistics", None)
        if not callable(statistics):
            raise ValueError(f"{said}: it has a parameter `statistics`, and {place} no function of that name")
    objective = OwnObjective(name, function, module, dict(options), statistics, key=key)
    check_objective(objective)
    return objective


def check_objective(objective: OwnObjective) -> None:
    """ValueError where random sequences show that a result is no number, or depends on what it must not."""
    draw = torch.Generator().manual_seed(0)
    lengths_B = torch.tensor([7, 1, 4, 0, 9, 9, 2, 5])
    mask_BT = torch.arange(9) < lengths_B[:, None]
    old_BT = -3 * torch.rand(mask_BT.shape, generator=draw, dtype=torch.float64) * mask_BT
    new_BT = old_BT + 0.5 * torch.randn(mask_BT.shape, generator=draw, dtype=torch.float64) * mask_BT
    known = (old_BT, mask_BT, torch.tensor([1.0, -1.0, 0.7, 0.5, -0.3, 2.0, 0.0, -1.6], dtype=torch.float64))
    with torch.random.fork_rng(devices=[]):
        sums = objective.sums(*known)
        _check_sums(objective, known, sums)
        objective = replace(objective, known=sums)
        of_old = _tried(objective, old_BT, known)
        found = _tried(objective, new_BT, known)
        for result in (of_old, found):
            _check_values(objective, mask_BT, *result)
        if not found[1].any():
            raise objective.refusal("its gradient is 0 everywhere")
        if not torch.equal(of_old[2], found[2]):
            raise objective.refusal("weight_B depends on log_probs_BT; it must be known before the forward")
        if not all(map(torch.equal, found, _tried(objective, new_BT, known))):
            raise objective.refusal("the same input gives another result the second time")
        for rows in ([0], [1, 3, 2], [4, 5, 6, 7]):
            got = _tried(objective, new_BT[rows], (known[0][rows], known[1][rows], known[2][rows]))
            beside = "a row's result depends on the rows beside it (`statistics` gives sums over all of them)"
            _compare(objective, got, [x[rows] for x in found], beside)
        wide = [torch.nn.functional.pad(x, (0, 3)) for x in (new_BT, old_BT, mask_BT)]
        got = _tried(objective, wide[0], (wide[1], wide[2], known[2]))
        narrow = [got[0], got[1][:, :-3], got[2]]
        _compare(objective, narrow, found, "a row's result depends on how far it is padded")


Known = tuple[Tensor, Tensor, Tensor]  # old log-probs, mask, advantages


def _tried(objective: OwnObjective, new_BT: Tensor, known: Known) -> list[Tensor]:
    """loss_B, its gradient (B, T), weight_B."""
    leaf_BT = new_BT.clone().requires_grad_()
    seen_BT = leaf_BT * 1.0  # no leaf, as in a run
    old_BT, mask_BT, advantages_B = (x.clone() for x in known)
    loss_B, weight_B = objective(seen_BT, old_BT, mask_BT, advantages_B)
    if not all(map(torch.equal, (new_BT, *known), (seen_BT, old_BT, mask_BT, advantages_B))):
        raise objective.refusal("it changes its arguments; copy what it writes into")
    try:
        (gradient_BT,) = torch.autograd.grad(loss_B.sum(), leaf_BT)
    except RuntimeError as error:
        raise objective.refusal(f"its gradient cannot be taken: {error}") from error
    return [loss_B.detach(), gradient_BT, weight_B]


def _check_values(
    objective: OwnObjective, mask_BT: Tensor, loss_B: Tensor, gradient_BT: Tensor, weight_B: Tensor
) -> None:
    for what, value in (("loss_B", loss_B), ("the gradient of loss_B", gradient_BT), ("weight_B", weight_B)):
        bad_B = ~value.isfinite() if value.ndim == 1 else ~value.isfinite().all(-1)
        if bad_B.any():
            where = " of a row without tokens" if not mask_BT[bad_B].any() else ""
            raise objective.refusal(f"{what}{where} is not finite")
    if (weight_B < 0).any():
        raise objective.refusal(f"weight_B is negative: {weight_B.tolist()}")
    if gradient_BT[~mask_BT.any(-1)].any():
        raise objective.refusal("a row without tokens (its mask is 0 everywhere) has a gradient")
    if gradient_BT[~mask_BT].any():
        raise objective.refusal("log-probs where the mask is 0 have a gradient: its sums must leave them out")


def _check_sums(objective: OwnObjective, known: Known, sums: Statistics | None) -> None:
    """Statistics are sums over rows: those of the parts add up to those of the whole."""
    if sums is None:
        return
    parts = [objective.sums(*(x[rows] for x in known)) or {} for rows in ([0, 1, 2], [3], [4, 5, 6, 7])]
    for key, whole in sums.items():
        if any(part.keys() != sums.keys() or part[key].shape != whole.shape for part in parts):
            raise objective.refusal("statistics must have the same keys and shapes for any rows")
        if not whole.isfinite().all():
            raise objective.refusal(f"statistics: {key} is not finite: {whole.tolist()}")
        added = torch.stack([part[key] for part in parts]).sum(0)
        if not torch.allclose(added, whole, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise objective.refusal(
                f"statistics: {key} is no sum over rows, so the ranks' cannot be added up (for a mean return "
                "sum and count)"
            )


def _compare(objective: OwnObjective, got: Sequence[Tensor], want: Sequence[Tensor], problem: str) -> None:
    for a, b in zip(got, want):
        if not torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise objective.refusal(f"{problem} (by up to {float((a - b).abs().max()):.1e})")
