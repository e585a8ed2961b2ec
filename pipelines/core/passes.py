"""The model after each pass, one at a time, so that a fit can be watched, compared with others and left."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from pipelines.core.config import BlendConfig, FactorizeConfig
from pipelines.core.model import FittedModel, fit
from pipelines.core.scoring import Training


class _Left(Exception):
    """Ends a fit that is not followed any more."""


def passes(
    training: Training, item_hashes: npt.NDArray[np.uint64], factorize: FactorizeConfig, blending: BlendConfig
) -> Generator[FittedModel, None, None]:
    """The model after pass 1, 2, .. `factorize.iterations`; after pass n it is what n iterations give.

    `fit` runs in a thread that rests while its last pass is looked at, so two fits can be followed side by side. Close
    the iterator to end it before its time.

    Raises:
        ConfigError: whatever `fit` raises, when the pass is asked for.

    """
    wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
    made: queue.SimpleQueue[FittedModel | BaseException | None] = queue.SimpleQueue()

    def on_pass(_number: int, model: FittedModel) -> None:
        made.put(model)
        if not wanted.get():
            raise _Left

    def work() -> None:
        try:
            if wanted.get():
                fit(training, item_hashes, factorize, blending, on_pass)
            made.put(None)
        except _Left:
            pass
        except BaseException as e:  # raised again where the pass was asked for
            made.put(e)

    thread = threading.Thread(target=work, name="fit", daemon=True)
    thread.start()
    try:
        while True:
            wanted.put(True)
            model = made.get()
            if model is None:
                return
            if isinstance(model, BaseException):
                raise model
            yield model
    finally:
        wanted.put(False)
        thread.join()
