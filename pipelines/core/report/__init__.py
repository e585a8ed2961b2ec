"""Figures of builds, of two builds and of tuning as HTML pages that need nothing else.

Another page draws with `panel`, or `look` and `figure_svg`, of `svg`, the placeholder colours of `theme` and the pieces
of `page`.
"""

from pipelines.core.report.comparison import render_comparison
from pipelines.core.report.evaluation import render_report
from pipelines.core.report.svg import figure_svg
from pipelines.core.report.trials import render_trials

__all__ = ["figure_svg", "render_comparison", "render_report", "render_trials"]
