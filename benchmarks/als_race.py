"""Passes of all contenders of `als.py` in turn: time, CPU seconds, losses and recall, and the table of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from als_contenders import LAM, Kindling
from als_data import Data, confident, recall
from implicit.cpu import als as implicit_als
from threadpoolctl import threadpool_limits

SHOWN = (0, 1, 3)
"""Passes whose figures are in the table, beside the last."""


@dataclass
class Course:
    """What one competitor did, pass by pass."""

    wall: list[float]
    cpu: list[float]
    loss: list[float]
    recall: list[float]
    own_loss: list[float]


def race(rivals: dict[str, Any], data: Data, passes: int, n_threads: int) -> dict[str, Course]:
    """All in turn, one pass each; an exact peer whose pass takes long makes one pass only."""
    courses = {name: Course([], [], [], [], []) for name in rivals}
    pairs = confident(data.train)
    cells = float(pairs.data.sum()) + np.prod(pairs.shape, dtype=np.float64) - pairs.nnz
    for number in range(passes):
        for name, rival in rivals.items():
            if number and "exact" in name:
                continue
            course = courses[name]
            with threadpool_limits(1, "blas"):
                wall, cpu = time.perf_counter(), time.process_time()
                rival.step()
                course.wall.append(time.perf_counter() - wall)
                course.cpu.append(time.process_time() - cpu)
                x, y = rival.factors()
                loss = implicit_als._als.calculate_loss(pairs, x, y, LAM, num_threads=n_threads)
                course.loss.append(loss)
                course.recall.append(
                    recall(x, y, data) if number + 1 == passes or number in SHOWN else np.nan
                )
                if isinstance(rival, Kindling) and rival.settings.text_weight:
                    bare = implicit_als._als.calculate_loss(pairs, x, y, 0.0, num_threads=n_threads)
                    course.own_loss.append(bare + rival.penalty() / cells)
            print(
                f"pass {number + 1} {name}: {course.wall[-1]:.2f} s, {course.cpu[-1]:.2f} CPU s, "
                f"loss {loss:.6f}, recall {course.recall[-1]:.4f}",
                flush=True,
            )
    return courses


def limit(data: Data, n_factors: int, courses: dict[str, Course]) -> str:
    """What reading the opposite factors of every pair once costs, beside a pass of ours."""
    cpu = time.process_time()
    buffer = np.empty((4096, n_factors), dtype=np.float32)
    for pairs in (data.train, data.by_item):
        factors = np.ones((pairs.shape[1], n_factors), dtype=np.float32)
        for at in range(0, pairs.nnz, len(buffer)):
            few = pairs.indices[at : at + len(buffer)]
            np.take(factors, few, axis=0, out=buffer[: len(few)], mode="clip")
    cpu = time.process_time() - cpu
    ours = float(np.median(courses["kindling, CG 3, with text"].cpu))
    return (
        f"The limit: copying the opposite factors of every pair together once a side takes {cpu:.2f} CPU s; a pass of "
        f"ours (CG 3, with text) takes {ours / cpu:.1f} times that."
    )


def race_table(n_factors: int, courses: dict[str, Course], base: str = "implicit, CG 3") -> list[str]:
    """Rows of one number of factors."""
    passes = max(len(c.loss) for c in courses.values())
    shown = [k for k in SHOWN if k < passes - 1] + [passes - 1]
    names = " | ".join(str(k + 1) for k in shown)
    lines = [
        f"## {n_factors} factors", "",
        f"| | s a pass | implicit's CG = 1 | CPU s a pass | implicit's CG = 1 | loss x 1000 after pass {names} | "
        f"passes to implicit's last loss | CPU s to it | recall@20 after pass {names} | "
        "CPU s to implicit's last recall |",
        "|" + "---|" * (8 + 2 * len(shown)),
    ]  # fmt: skip
    goal = courses[base].loss[-1]
    found = courses[base].recall[-1]
    for name, c in courses.items():
        as_good = next((k for k, value in enumerate(c.recall) if value >= found), None)
        reached = next((k + 1 for k, value in enumerate(c.loss) if value <= goal * (1 + 1e-6)), None)
        cells = [
            name, f"{np.median(c.wall):.2f}", f"{_ratio(c.wall, courses[base].wall):.2f}",
            f"{np.median(c.cpu):.2f}", f"{_ratio(c.cpu, courses[base].cpu):.2f}",
            *(f"{1000 * c.loss[k]:.3f}" if k < len(c.loss) else "" for k in shown),
            str(reached or "–"), f"{sum(c.cpu[:reached]):.1f}" if reached else "–",
            *(f"{c.recall[k]:.4f}" if k < len(c.recall) else "" for k in shown),
            f"{sum(c.cpu[: as_good + 1]):.1f}" if as_good is not None else "–",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    falls = [
        f"{name}: {'falls in every pass' if np.all(np.diff(c.own_loss) < 0) else 'RISES in some pass'} "
        f"({c.own_loss[0]:.6f} to {c.own_loss[-1]:.6f})"
        for name, c in courses.items()
        if len(c.own_loss) > 1
    ]
    return [*lines, "", f"{passes} passes. The loss with priors, of DESIGN: {'; '.join(falls)}.", ""]


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the ratios of passes that were made one after the other."""
    return float(np.median([a / b for a, b in zip(ours, theirs, strict=False)]))
