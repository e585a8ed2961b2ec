"""Where the factors of a rebuild start: at those of the version in service, row by row by id.

Only factors are taken over. Columns of profiles mean something else in every version, for means and lexical directions
are fitted to its texts, so the maps are regressed anew from the factors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.bundle import BundlePaths
from pipelines.core.config import Config
from pipelines.core.encoder import encoder_fingerprint
from pipelines.core.errors import ArtefactError
from pipelines.core.forgetting import Forgotten, unused_users
from pipelines.core.ids import row_numbers
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout, ModelName
from pipelines.core.pairs import Side
from pipelines.core.schema import ITEM_ID, USER_ID
from pipelines.core.storage import read_json, read_tensors, take_rows

FloatArray = npt.NDArray[np.float32]

STARTS_WARM: frozenset[ModelName] = frozenset({"full", "held"})
"""Models that figures are not measured on with what the version in service has learnt from, see decision 0029."""


@dataclass(frozen=True)
class Start:
    """Where the fit of one model starts.

    Attributes:
        version: whose factors are the first ones; None: of nobody, they are drawn.
        iterations: passes.
        why: there is no version; empty where there is one.

    """

    version: str | None
    iterations: int
    why: str = ""

    def words(self) -> str:
        """For people to read."""
        origin = f"from {self.version}" if self.version else f"from nothing ({self.why})"
        return f"{origin}, {self.iterations} passes"


def choose_start(config: Config, layout: Layout, model: ModelName) -> Start:
    """Where a model starts, by the note of a rebuild and by whether factors of that version fit.

    Args:
        config: of the build, with the encoder that texts were embedded with.
        layout: of the build.
        model: to be fitted.

    Raises:
        ArtefactError: the version in service, or the note, is spoilt.

    """
    why, incumbent = "", Incumbent.read(layout)
    if incumbent is None:
        why = "a plain build"
    elif not incumbent.is_warm:
        why = "a rebuild that starts anew"
    elif model not in STARTS_WARM:
        why = "what it is measured on is known to the version in service"
    else:
        why = _misfit(config, BundlePaths(layout.bundle(incumbent.version)))
    if incumbent is None or why:
        return Start(None, config.factorize.iterations, why)
    return Start(incumbent.version, config.rebuild.iterations)


def _misfit(config: Config, paths: BundlePaths) -> str:
    """Why factors of a version are of no use; empty where they are."""
    n_factors = read_tensors(paths.text_maps)["item_map"].shape[1]
    if n_factors != config.factorize.n_factors:
        return f"factors have length {config.factorize.n_factors}, those in service {n_factors}"
    encoder = read_json(paths.manifest).get("encoder", {})
    if encoder.get("fingerprint") != encoder_fingerprint(config.encoder):
        return "texts are encoded by another encoder than those in service"
    return ""


def known_factors(
    paths: BundlePaths, side: Side, ids: pa.Array | pa.ChunkedArray, others: FloatArray, forgotten: Forgotten
) -> FloatArray:
    """(n, F) factors of a version by id.

    Args:
        paths: of the version.
        side: "user" or "item".
        ids: (n,) of the rows.
        others: (n, F) what stands in rows that the version does not know.
        forgotten: of users, who are unknown unless what the version knows of them is of later.

    Raises:
        ArtefactError: the version is spoilt.

    """
    table, key, arrays = (
        (paths.users, USER_ID, paths.user_arrays)
        if side == "user"
        else (paths.items, ITEM_ID, paths.item_arrays)
    )
    try:
        known = pq.read_table(table, columns=None if side == "user" else [key])
    except (OSError, pa.ArrowException) as e:
        raise ArtefactError(f"{table} cannot be read: {e}. Build again or roll back.") from e
    rows = row_numbers(ids, known.column(key).combine_chunks())
    if side == "user":
        is_unused = np.append(unused_users(known, forgotten), False)  # the last one for row -1
        rows = np.where(is_unused[rows], -1, rows)
    factors = others.copy()
    factors[rows >= 0] = take_rows(arrays, "factors", rows[rows >= 0])
    return factors
