"""How long items have been there, and so what it says that a user did not touch them.

To a factorization a pair that was not observed is "not wanted", with weight 1. Of an item that came yesterday almost
all who were ever here have never had the chance. So such a pair of item i weighs

    e_i = (interactions since item i came) / (all interactions)         of a user with an item, by their first

like the weights that missing data has in He et al. 2016, there by popularity. e is 1 for an item that has always been
there and grows back to 1 as an item ages. Without it a young item starts out as one that nobody wants, and every build
takes back what its text and its first clicks had promised (docs/decisions/0031).

When an item came is said by its column `created_at`; of one that the service alone was told of, which says no date, by
when that was; and never later than its first interaction. Of items of which nobody says it, e is 1: a film that is
rated for the first time has not come on that day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.collected import SAID_AT
from pipelines.core.dates import date_seconds
from pipelines.core.ids import row_numbers
from pipelines.core.layout import Layout, ModelName
from pipelines.core.schema import CREATED_AT, ITEM_ID
from pipelines.core.storage import part_paths, write_table

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.signedinteger]


@dataclass(frozen=True)
class Arrivals:
    """When items came.

    Attributes:
        seconds: (I,) since 1970; NaN where nobody says it.
        n_unreadable: items whose `created_at` is no date.
        example: what stands there in the first of them.

    """

    seconds: DoubleArray
    n_unreadable: int = 0
    example: str = ""

    def summary(self) -> dict[str, object]:
        """For people: of how many items it is known, and what could not be read."""
        said: dict[str, object] = {"items_with_arrival": int((~np.isnan(self.seconds)).sum())}
        if self.n_unreadable:
            said |= {"created_at_unreadable": self.n_unreadable, "created_at_first_unreadable": self.example}
        return said


def read_arrivals(layout: Layout) -> Arrivals:
    """Of every item of a build."""
    found = [_created(pq.ParquetFile(path)) for path in part_paths(layout.tables / "items")]
    arrivals = np.concatenate([part.seconds for part in found]) if found else np.zeros(0)
    if layout.announced.is_file():
        said = pq.read_table(layout.announced)
        ids = pq.read_table(layout.ids("items")).column(ITEM_ID).combine_chunks()
        rows, moments = row_numbers(said.column(ITEM_ID), ids), said.column(SAID_AT).to_numpy()
        missing = (rows >= 0) & np.isnan(arrivals[rows])  # some may have been set aside since
        arrivals[rows[missing]] = moments[missing]
    examples = [part.example for part in found if part.n_unreadable]
    return Arrivals(arrivals, sum(part.n_unreadable for part in found), next(iter(examples), ""))


def _created(file: pq.ParquetFile) -> Arrivals:
    if CREATED_AT not in file.schema_arrow.names:
        return Arrivals(np.full(file.metadata.num_rows, np.nan))
    return created(file.read(columns=[CREATED_AT]).column(0))


def created(column: pa.ChunkedArray) -> Arrivals:
    """What a column says of when its items came."""
    read = date_seconds(column)
    seconds, wrong = read or (np.full(len(column), np.nan), column.is_valid().to_numpy())
    rows = np.flatnonzero(wrong)
    return Arrivals(seconds, len(rows), str(column[int(rows[0])].as_py())[:40] if len(rows) else "")


def exposure(arrivals: DoubleArray, items: IntArray, moments: DoubleArray) -> FloatArray:
    """(I,) e of every item.

    Args:
        arrivals: (I,) seconds; NaN where it is not known.
        items: (n,) of the pairs that are learnt from.
        moments: (n,) of the first interaction of each; NaN where it is not known, which is taken for as long ago as the
            first of all.

    """
    if np.isnan(moments).all():
        return np.ones(len(arrivals), dtype=np.float32)
    moments = np.where(np.isnan(moments), np.nanmin(moments), moments)
    first = arrivals.copy()
    np.fmin.at(first, items, np.where(np.isnan(arrivals[items]), np.nan, moments))
    since = len(moments) - np.searchsorted(np.sort(moments), first, side="left")
    # of an item that nothing has happened since, as many as if the last interaction had been after it
    return np.where(np.isnan(first), 1.0, np.maximum(since, 1) / len(moments)).astype(np.float32)


def write_exposure(layout: Layout, model: ModelName, values: FloatArray) -> None:
    """Keep what `exposure` found beside the pairs of a model."""
    write_table(layout.exposure(model), pa.table({"exposure": values}))


def read_exposure(layout: Layout, model: ModelName, start: int, stop: int) -> FloatArray | None:
    """(stop - start,) e of some items; None where nothing is known of any."""
    path = layout.exposure(model)
    if not path.is_file():
        return None
    return np.asarray(pq.read_table(path).column(0).slice(start, stop - start).to_numpy())
