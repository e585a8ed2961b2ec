"""How long items have been there, and so what it says that a user did not touch them.

To a factorization a pair that was not observed is "not wanted", with weight 1. Of an item that came yesterday almost
all who were ever here have never had the chance. So such a pair of item i weighs

    e_i = (interactions since item i came) / (all interactions)

like the weights that missing data has in He et al. 2016, there by popularity. e is 1 for an item that has always been
there and grows back to 1 as an item ages. Without it a young item starts out as one that nobody wants, and every build
takes back what its text and its first clicks had promised (docs/decisions/0031).

When an item came is said by its column `created_at`; of one that the service alone was told of, which says no date, by
when that was; and never later than its first interaction. Of items of which nobody says it, e is 1: a film that is
rated for the first time has not come on that day.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.collected import SAID_AT, Collected
from pipelines.core.dates import date_seconds
from pipelines.core.ids import row_numbers
from pipelines.core.layout import Layout, ModelName
from pipelines.core.schema import CREATED_AT, ITEM_ID
from pipelines.core.storage import part_paths, write_table

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.signedinteger]


def read_arrivals(layout: Layout) -> DoubleArray:
    """(I,) when items came, in seconds since 1970; NaN where nobody says it."""
    found = [_created(pq.ParquetFile(path)) for path in part_paths(layout.tables / "items")]
    arrivals = np.concatenate(found) if found else np.zeros(0)
    told = Collected.read(layout)
    if told is not None and len(arrivals):
        said = told.table("items")
        said = said.filter(pc.and_(said.column("is_whole"), pc.is_valid(said.column("fields"))))
        ids = pq.read_table(layout.ids("items")).column(ITEM_ID).combine_chunks()
        rows = row_numbers(said.column(ITEM_ID), ids)
        moments = said.column(SAID_AT).to_numpy()[rows >= 0]
        rows = rows[rows >= 0]
        arrivals[rows] = np.where(np.isnan(arrivals[rows]), moments, arrivals[rows])
    return arrivals


def _created(file: pq.ParquetFile) -> DoubleArray:
    if CREATED_AT not in file.schema_arrow.names:
        return np.full(file.metadata.num_rows, np.nan)
    read = date_seconds(file.read(columns=[CREATED_AT]).column(0))
    return np.full(file.metadata.num_rows, np.nan) if read is None else read[0]


def exposure(arrivals: DoubleArray, items: IntArray, moments: DoubleArray) -> FloatArray:
    """(I,) e of every item.

    Args:
        arrivals: (I,) seconds; NaN where it is not known.
        items: (n,) of the interactions that are learnt from.
        moments: (n,) when they were; NaN where it is not known.

    """
    first = arrivals.copy()
    np.fmin.at(first, items, np.where(np.isnan(arrivals[items]), np.nan, moments))
    dated = np.sort(moments[~np.isnan(moments)])
    if not len(dated):
        return np.ones(len(arrivals), dtype=np.float32)
    since = len(dated) - np.searchsorted(dated, first, side="left")
    # of an item that nothing has happened since, as many as if the last interaction had been after it
    return np.where(np.isnan(first), 1.0, np.maximum(since, 1) / len(dated)).astype(np.float32)


def write_exposure(layout: Layout, model: ModelName, values: FloatArray) -> None:
    """Keep what `exposure` found beside the pairs of a model."""
    write_table(layout.exposure(model), pa.table({"exposure": values}))


def read_exposure(layout: Layout, model: ModelName, start: int, stop: int) -> FloatArray | None:
    """(stop - start,) e of some items; None where nothing is known of any."""
    path = layout.exposure(model)
    if not path.is_file():
        return None
    return np.asarray(pq.read_table(path).column(0).slice(start, stop - start).to_numpy())
