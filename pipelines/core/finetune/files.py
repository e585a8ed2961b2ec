"""What one fine-tuning is taught from, as files: written once, mapped or read piece by piece by every worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.finetune.examples import Examples, Histories, take_rows
from pipelines.core.finetune.tokens import TokenTable
from pipelines.core.storage import read_tensors, write_table, write_tensors

IntArray = npt.NDArray[np.int64]
Part = Literal["train", "validation"]
Tokenised = Literal["items", "users", "labelled", "wordings"]


@dataclass(frozen=True)
class ExampleFiles:
    """Files in one folder.

    Attributes:
        root: the folder.
        histories_end: whether a row's history ends before its item, as for predicting what comes next.

    """

    root: Path
    histories_end: bool = False

    def tokens(self, table: Tokenised) -> Path:
        """Token table of texts of items or users, of labelled texts, or of other wordings of the items'."""
        return self.root / f"{table}.arrow"

    @property
    def classes(self) -> Path:
        """JSON: names of the classes in the order of their numbers."""
        return self.root / "classes.json"

    @property
    def _histories(self) -> Path:
        return self.root / "histories.arrow"

    @property
    def _neighbours(self) -> Path:
        return self.root / "neighbours.safetensors"

    def rows(self, part: Part) -> Path:
        """Rows of training or validation."""
        return self.root / f"{part}.parquet"

    def write(self, examples: Examples, window: int) -> None:
        """Write rows, `window` to a row group, and histories."""
        self.write_rows(examples.train, examples.validation, window)
        examples.histories.write(self._histories)

    def write_rows(self, train: pa.Table, validation: pa.Table, window: int) -> None:
        """Rows alone, where there are no histories."""
        write_table(self.rows("train"), train, row_group_size=window)
        write_table(self.rows("validation"), validation)

    def write_neighbours(self, neighbours: IntArray) -> None:
        """(I, m) similar items."""
        write_tensors(self._neighbours, {"neighbours": neighbours})

    def neighbours(self) -> IntArray | None:
        """(I, m) similar items, or None where none were looked for."""
        return read_tensors(self._neighbours)["neighbours"] if self._neighbours.exists() else None

    def histories(self) -> Histories:
        """Items each user wanted."""
        return Histories.open(self._histories)

    def texts(self, table: Tokenised) -> TokenTable:
        """Texts, with other wordings where there are some."""
        path = self.tokens("wordings")
        wordings = TokenTable.open(path) if table == "items" and path.exists() else None
        return TokenTable.open(self.tokens(table), wordings)

    def count(self, part: Part) -> int:
        """Rows."""
        return int(pq.read_metadata(self.rows(part)).num_rows)

    def all_rows(self, part: Part) -> pa.Table:
        """Rows without histories."""
        return pq.read_table(self.rows(part))

    def validation(self) -> pa.Table:
        """Rows of validation as an objective reads them."""
        return self._beside(self.all_rows("validation"))

    def take(self, numbers: IntArray) -> pa.Table:
        """Training rows by number as an objective reads them."""
        return self._beside(take_rows(self.rows("train"), numbers))

    def _beside(self, rows: pa.Table) -> pa.Table:
        if not self._histories.exists():
            return rows
        return self.histories().beside(rows, before=self.histories_end)
