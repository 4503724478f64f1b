"""The constants of this room that were fitted to measurements: to what, where, and what depends on them.

No default of a run on a GPU depends on any of them. That default is EasyR1's own dynamic batching budget,
lowered only by a sum of counted tensors (budget.py). A test sets all constants here to NaN and still gets the
same defaults on a GPU.
"""

from __future__ import annotations

# Operations in the time that one element takes to move through memory. Fitted on one CPU core, to measured
# updates of 57 mixed groups (benchmarks/rank_balance.py, seed 0): the time per unit of work then differs by
# 3% between groups, the time per operation by 7%. By their data sheets GPUs lie between 100 and 400. Depends
# on it: which rank computes which groups.
MOVED = 150.0

# Gaps between blocks of glibc's heap, as a share of the blocks' bytes at a pass's peak. Measured with glibc
# 2.36 on a CPU, on two models and six batches: 0.29 to 0.74 (median 0.38) with a backward; 1.1 to 1.8
# without, where every block is soon freed again. Depends on it: what a forward may hold on a machine without
# a GPU.
GAPS_WITH_BACKWARD, GAPS_WITHOUT = 0.4, 1.5
