"""Texts with labels, from a file of the caller's, and which of them are kept for validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.core.errors import InputError
from pipelines.core.finetune.examples import LABEL
from pipelines.core.readers import SUFFIXES, SourceFile, cut_chunks, open_filesystem, read_chunk
from pipelines.core.schema import ROW
from pipelines.core.text import clean_text

IntArray = npt.NDArray[np.int64]
TEXT, TEXT_IDX = "text", "text_idx"
_VALIDATION_SHARE = 0.2
_SHOWN = 5
"""Rows or classes that an error names."""


@dataclass(frozen=True)
class Labelled:
    """Labelled texts.

    Attributes:
        texts: cleaned, none empty.
        labels: (n,) number of each one's class.
        classes: their names, sorted.

    """

    texts: tuple[str, ...]
    labels: IntArray
    classes: tuple[str, ...]

    def rows(self, numbers: IntArray) -> pa.Table:
        """Examples of some of the texts, in the order given."""
        return pa.table({TEXT_IDX: pa.array(numbers, pa.int64()), LABEL: self.labels[numbers]})


def read_labels(uri: str, csv_delimiter: str = ",") -> Labelled:
    """Read a file with the columns `text` and `label`: Parquet, JSON Lines or CSV, on a path, s3:// or gs://.

    Raises:
        InputError: what is wrong, in which rows, and what to do; nothing is left out in silence.

    """
    table = _read(uri, csv_delimiter)
    for name in (TEXT, LABEL):
        if name not in table.column_names:
            found = ", ".join(c for c in table.column_names if c != ROW)
            raise InputError(f"{uri} has no column '{name}', only: {found}. Name the columns text and label.")
    rows = table.column(ROW).to_pylist()
    texts = [clean_text(t) if isinstance(t, str) else "" for t in table.column(TEXT).to_pylist()]
    names = [_name(label) for label in table.column(LABEL).to_pylist()]
    _refuse(uri, rows, texts, lambda text: not text, "no text. Fill it in, or leave these rows out")
    _refuse(uri, rows, names, lambda name: not name, "no label. Fill it in, or leave these rows out")
    classes = tuple(sorted(set(names)))
    _check_classes(uri, texts, names, classes)
    number = {name: place for place, name in enumerate(classes)}
    return Labelled(tuple(texts), np.array([number[name] for name in names], dtype=np.int64), classes)


def _read(uri: str, csv_delimiter: str) -> pa.Table:
    if not uri.endswith(SUFFIXES):
        raise InputError(f"finetune.labels = '{uri}': expected a file that ends in {', '.join(SUFFIXES)}.")
    _, path = open_filesystem(uri)
    chunks = cut_chunks(uri, "items", [SourceFile(path, 0, 0)])  # any table: the reader checks no columns
    parts = []
    for chunk in chunks:
        part, bad = read_chunk(chunk, csv_delimiter)
        if bad:
            where = f"row {bad[0].row}: " if bad[0].row else ""
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise InputError(f"finetune.labels = '{uri}': {where}{bad[0].reason}{more}. Mend it.")
        parts.append(part)
    return pa.concat_tables(parts)


def _name(label: Any) -> str:  # noqa: ANN401 - of whatever type the file has
    """A class by one name, in whatever format it came: 1.0, as a gap in a column makes of 1, is 1."""
    if label is None or label != label:  # noqa: PLR0124 - NaN
        return ""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label).strip()


def _refuse(
    uri: str, rows: Sequence[int], values: Sequence[str], wrong: Callable[[str], bool], what: str
) -> None:
    found = [row for row, value in zip(rows, values, strict=True) if wrong(value)]
    if found:
        shown = ", ".join(map(str, found[:_SHOWN])) + (", ..." if len(found) > _SHOWN else "")
        raise InputError(f"{uri}: {len(found)} rows have {what}: {shown}.")


def _check_classes(uri: str, texts: Sequence[str], names: Sequence[str], classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        has = f"only the class '{classes[0]}'" if classes else "no rows"
        raise InputError(f"{uri} has {has}; expected two classes or more. Add rows of another.")
    different = {name: set[str]() for name in classes}
    for text, name in zip(texts, names, strict=True):
        different[name].add(text)
    single = [name for name in classes if len(different[name]) < 2]
    if single:
        shown = ", ".join(f"'{name}'" for name in single[:_SHOWN]) + (", ..." if len(single) > _SHOWN else "")
        raise InputError(
            f"{uri}: {len(single)} of {len(classes)} classes have a single text: {shown}; expected two or more, one to "
            "learn from and one to validate with. Add texts, or merge these classes with others."
        )


def stratified_split(labelled: Labelled, most: int, seed: int) -> tuple[IntArray, IntArray]:
    """Numbers of the texts to learn from, and of those to validate with: a fifth of each class, one at least.

    Equal texts are on one side, or the validation would ask for what was learnt by heart.

    Args:
        labelled: of two or more different texts a class.
        most: texts to validate with, about; a class gives one nevertheless.
        seed: of the choice.

    """
    rng = np.random.default_rng(seed)
    first: dict[str, int] = {}
    group = np.array([first.setdefault(text, place) for place, text in enumerate(labelled.texts)])
    own = np.unique(group)
    share = min(_VALIDATION_SHARE, most / len(own))
    held: list[int] = []
    for number in range(len(labelled.classes)):
        members = rng.permutation(own[labelled.labels[own] == number])
        held += members[: max(1, round(share * len(members)))].tolist() if len(members) > 1 else []
    is_held = np.isin(group, held)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
