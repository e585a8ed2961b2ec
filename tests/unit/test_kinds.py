"""Kinds of events as bits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from pipelines.core.kinds import hidden_bits, kind_bits, kinds_of_pairs

KINDS = {"view": 1.0, "purchase": 3.0}


def test_every_pair_has_the_bits_of_its_rows() -> None:
    history = sp.csr_matrix(np.array([[0, 2.0, 1.0], [0, 0, 0], [4.0, 0, 0]], dtype=np.float32))
    parts = [
        pa.table(
            {
                "user_idx": [0, 0, 0, 2, 1],
                "item_idx": [1, 1, 2, 0, 2],
                "event": ["view", "purchase", "view", None, "view"],
            }
        ),
        pa.table({"user_idx": [2], "item_idx": [0], "event": pa.array([None], pa.string())}),
    ]
    bits = kind_bits(KINDS)
    found = kinds_of_pairs(history, parts, KINDS)
    assert found.tolist() == [bits["view"] | bits["purchase"], bits["view"], bits[None]]
    assert kinds_of_pairs(sp.csr_matrix((3, 3), dtype=np.float32), parts, KINDS).tolist() == []


def test_what_hides_is_asked_by_kind() -> None:
    hides = hidden_bits(KINDS, lambda kind: kind in (None, "purchase"))
    bits = kind_bits(KINDS)
    assert [bool(hides & bits[kind]) for kind in ("purchase", "view", None)] == [True, False, True]
    assert len(set(kind_bits(map(str, range(100))).values())) == 63, "more kinds than bits share the last"
