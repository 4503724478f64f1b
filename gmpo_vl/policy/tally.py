"""Sums, maxima and values collected over micro-batches, then reduced over ranks: exactly, and once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist


class Tally:
    """Every rank names the same sums and maxima; a rank that adds nothing still takes part in `reduce`.

    device: where the collectives of `reduce` run: this rank's GPU under nccl, else the CPU.
    """

    def __init__(
        self, sums: Sequence[str], maxima: Sequence[str], device: torch.device | str = "cpu"
    ) -> None:
        self._sum_names, self._max_names = tuple(sums), tuple(maxima)
        self._device = torch.device(device)
        # One entry a call, left where the tensors are: nothing waits for a GPU before `reduce`.
        self._sums: list[torch.Tensor] = []
        self._maxima: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []

    def add_sums(self, sums: Mapping[str, float | torch.Tensor]) -> None:
        self._sums.append(_row(sums, self._sum_names, 0.0))

    def add_maxima(self, maxima: Mapping[str, float | torch.Tensor]) -> None:
        self._maxima.append(_row(maxima, self._max_names, -torch.inf))

    def add_values(self, values_BT: torch.Tensor, mask_BT: torch.Tensor) -> None:
        """Values to take quantiles of, kept as float32."""
        self._values.append(torch.where(mask_BT, values_BT, torch.nan).float().flatten())

    def mark(self) -> tuple[int, int, int]:
        """What has been added until now, for `rewind`."""
        return len(self._sums), len(self._maxima), len(self._values)

    def rewind(self, mark: tuple[int, int, int]) -> None:
        """Take back what was added since; every rank does, or none."""
        for rows, count in zip((self._sums, self._maxima, self._values), mark):
            del rows[count:]

    def reduce(self) -> tuple[dict[str, float], dict[str, float], np.ndarray]:
        """Sums (0 where nothing was added), maxima (-inf where nothing was), and all values in no particular
        order.

        A collective where torch.distributed runs: every rank calls it and gets the same.
        """
        sums, maxima = _row({}, self._sum_names, 0.0), _row({}, self._max_names, -torch.inf)
        sums, maxima = sums.to(self._device), maxima.to(self._device)
        for row in self._sums:
            sums += row.to(self._device)
        for row in self._maxima:
            maxima = torch.maximum(maxima, row.to(self._device))
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
            dist.all_reduce(maxima, op=dist.ReduceOp.MAX)
        values = _gather(self._values, self._device)
        return dict(zip(self._sum_names, sums.tolist())), dict(zip(self._max_names, maxima.tolist())), values


def _row(values: Mapping[str, float | torch.Tensor], names: Sequence[str], missing: float) -> torch.Tensor:
    """One float64 per name, on the values' device; `missing` where there is no value."""
    given = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}
    device = next((value.device for value in given.values() if value.device.type != "cpu"), "cpu")
    absent = torch.tensor(missing, dtype=torch.float64, device=device)
    return torch.stack([given[name].to(device) if name in given else absent for name in names])


def _gather(values: Sequence[torch.Tensor], device: torch.device) -> np.ndarray:
    """All values of all ranks that are not NaN; ranks may have different numbers of them."""
    mine = torch.cat([torch.empty(0, device=device), *(rows.to(device) for rows in values)])
    mine = mine[~mine.isnan()]
    if not (dist.is_available() and dist.is_initialized()):
        return mine.cpu().numpy()
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(mine)], device=device))
    padded = torch.zeros(max(int(count) for count in counts), device=device)
    padded[: len(mine)] = mine
    everyone = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(everyone, padded)
    return torch.cat([rows[: int(count)] for rows, count in zip(everyone, counts)]).cpu().numpy()
