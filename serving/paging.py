"""Which of the ranked items a request is about: its page, various ones, within caps and with pins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.core.arrange import arrange
from pipelines.core.config import ServeConfig
from pipelines.core.diversity import diversify
from pipelines.core.errors import InputError
from pipelines.core.ranking import Ranked, add
from serving.catalogue import Catalogue
from serving.requests import Request
from serving.rules import Ruled
from serving.understanding import Understood

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
_CAPPED_DEPTH = 4
"""Times more items are ranked at first where caps will pass some over."""


def check_page(settings: ServeConfig, n: int, offset: int = 0) -> None:
    """See that a page is within what a service answers.

    Raises:
        InputError: it is not.

    """
    most = settings.max_n
    if not 1 <= n <= most:
        raise InputError(f"n is {n}, expected 1 to {most} (serve.max_n).")
    if not 0 <= offset <= most - n:
        raise InputError(
            f"offset is {offset}, expected 0 to {most - n}: with n at most {most} (serve.max_n)."
        )


def diversity(settings: ServeConfig, request: Request) -> float:
    """0 to 1, see `pipelines.core.diversity`."""
    return settings.diversity if request.diversity is None else request.diversity


def depth(settings: ServeConfig, request: Request, ruled: Ruled) -> int:
    """Items to rank: up to the end of the page; to choose various ones from, always as many, or pages would mix."""
    if diversity(settings, request) > 0:
        return settings.max_n
    return (request.offset + request.n) * (_CAPPED_DEPTH if ruled.caps else 1)


def page(settings: ServeConfig, asked: Understood, best: Ranked, catalogue: Catalogue) -> Ranked | None:
    """The places that the request is about; None: more items have to be ranked to say.

    Args:
        settings: of the service.
        asked: who asks for what.
        best: items in the order of their scores.
        catalogue: the items.

    """
    request, ruled = asked.request, asked.ruled
    end, weight = request.offset + request.n, diversity(settings, request)
    order = np.arange(len(best.rows))
    if weight > 0:
        count = len(order) if ruled.caps else end
        order = diversify(best.scores, catalogue.vectors(best.rows), count, weight)
    if not ruled.caps and not ruled.pins:
        places = order[request.offset : end]
        return Ranked(best.rows[places], best.scores[places])
    is_all = weight > 0 or len(best.rows) < asked.depth or asked.depth >= len(catalogue)
    found = arrange(best.rows[order].tolist(), end, ruled.caps, ruled.pins, is_all=is_all)
    if found is None:
        return None
    rows = np.array(found[request.offset :], dtype=np.int64)
    return Ranked(rows, _scores(rows, asked, catalogue))


def _scores(rows: IntArray, asked: Understood, catalogue: Catalogue) -> FloatArray:
    """(n,) of some items, for who asks."""
    if asked.wanted is None:
        scores = catalogue.popularity(rows)
    else:
        scores = np.asarray(np.einsum("ij,j->i", catalogue.vectors(rows), asked.wanted.user))
    return add(scores, rows, asked.ruled.additions, asked.ruled.unit)
