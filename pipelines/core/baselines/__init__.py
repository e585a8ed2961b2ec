"""The baselines: what anybody could have instead, fitted on the same pairs and texts and asked the same.

| name | learns from | answers a user without history | answers an unknown item |
|---|---|---|---|
| popularity | behaviour | the same for all | 0 |
| bm25 | words | by words | by words |
| content | text vectors | by text | by text |
| als | behaviour | 0 | 0 |
| als_text | behaviour, then text | through a map | through a map |
| irspack | both at once | through a map | through a map |
| cmfrec | both at once | by text | by text |
"""

from __future__ import annotations

from collections.abc import Callable

from pipelines.core.baselines import cmfrec_cmf, content, irspack_ials, matrix, popularity, words
from pipelines.core.baselines.libraries import load
from pipelines.core.baselines.settings import BaselineSettings
from pipelines.core.errors import ConfigError
from pipelines.core.scoring import Scorer, Training

__all__ = ["BASELINES", "BaselineSettings", "Fit", "fit_baseline", "unavailable"]

Fit = Callable[[Training, BaselineSettings, int], Scorer]
"""Training, settings and seed to a fitted model."""

BASELINES: dict[str, Fit] = {
    "popularity": popularity.fit,
    "bm25": words.fit,
    "content": content.fit,
    "als": matrix.fit_als,
    "als_text": matrix.fit_als_text,
    "irspack": irspack_ials.fit,
    "cmfrec": cmfrec_cmf.fit,
}
_LIBRARIES = {"irspack": "irspack", "cmfrec": "cmfrec"}
"""Of the extra `bench`."""


def unavailable(name: str) -> str | None:
    """Why a baseline cannot be fitted here, or None if it can."""
    library = _LIBRARIES.get(name)
    if library is None:
        return None
    try:
        load(library)
    except ImportError:
        return "not installed: pip install 'kindling[bench]'"
    return None


def fit_baseline(name: str, training: Training, settings: BaselineSettings, seed: int) -> Scorer:
    """Fit one baseline; the same seed gives the same scorer.

    Raises:
        ConfigError: no baseline of this name, its library is not installed, or its settings cannot be solved.

    """
    if name not in BASELINES:
        raise ConfigError(
            f"evaluate.baselines holds '{name}', which is none of {', '.join(BASELINES)}. Correct the name."
        )
    reason = unavailable(name)
    if reason is not None:
        raise ConfigError(f"the baseline '{name}' is {reason}; or leave it out of evaluate.baselines.")
    return BASELINES[name](training, settings, seed)
