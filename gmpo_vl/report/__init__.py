"""A run's page: curves, figures and rollouts with their pictures in one HTML file."""

from gmpo_vl.report.page import write_report

__all__ = ["write_report"]
