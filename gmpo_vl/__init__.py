"""gmpo_vl: vision-language RL with Geometric-Mean Policy Optimization (GMPO, arXiv 2507.20673)."""

__version__ = "0.1.0"
