"""Self-contained HTML reports."""

from distill.report.run import write_run_report

__all__ = ["write_run_report"]
