"""The report of a comparison: one HTML file that needs nothing else."""

from stelab.engine.report.page.write import render, write_report

__all__ = ["render", "write_report"]
