"""Tags that some items carry already, read from a column of theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines.core.attributes import Known
from pipelines.core.errors import ConfigError


def known_tags(column: pa.ChunkedArray, labels: Sequence[str], separator: str) -> Known:
    """Which items have which label; case and blanks around a tag do not count.

    An item is known when the column says anything of it, be it none of the labels: it is then known not to have
    them. Null, an empty text and an empty list leave it unknown.

    Args:
        column: texts, or lists of texts.
        labels: of the attribute.
        separator: between the tags of a text.

    Raises:
        ConfigError: the column holds something else.

    """
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    element = kind.value_type if is_list else kind
    if not (pa.types.is_string(element) or pa.types.is_large_string(element) or pa.types.is_null(element)):
        raise ConfigError(
            f"attributes.known: a column of {kind} holds no tags; expected text or lists of text."
        )
    place = {label.strip().casefold(): i for i, label in enumerate(labels)}
    tags = np.zeros((len(column), len(labels)), dtype=bool)
    rows = np.zeros(len(column), dtype=bool)
    for row, value in enumerate(column.to_pylist()):
        values = value.split(separator) if isinstance(value, str) else value or []
        found = [v.strip().casefold() for v in values if v and v.strip()]
        rows[row] = bool(found)
        tags[row, [place[v] for v in found if v in place]] = True
    return Known(tags, rows)
