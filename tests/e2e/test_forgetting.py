"""A user who is forgotten, from the command to the last file of the next build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.bundle import current_version
from pipelines.core.encoder import content_hash
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.registry import Registry
from pipelines.core.storage import part_paths, read_json
from serving.recommender import Recommender
from serving.requests import Request
from tests.conftest import kindling

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def texts_of(layout: Layout) -> dict[str, str]:
    """What each user of the tables says of themselves."""
    tables = [
        pq.read_table(path, columns=["user_id", "text"]) for path in part_paths(layout.tables / "users")
    ]
    table = pa.concat_tables(tables)
    return dict(zip(*table.to_pydict().values(), strict=True))


def cached(layout: Layout) -> set[bytes]:
    caches = [pq.read_table(p, columns=["hash"]) for p in layout.embedding_caches.rglob("*.parquet")]
    return set(pa.concat_tables(caches).column("hash").to_pylist())


def test_who_is_forgotten_is_nowhere_after_the_next_build(
    small_data: Path, small_config: Path, built_copy: Path
) -> None:
    layout, former = Layout(built_copy), current_version(Layout(built_copy))
    texts = texts_of(layout)
    history = pq.read_table(small_data / "interactions.parquet").column("user_id").to_pylist()
    user = max((u for u in set(history) if texts[u]), key=lambda u: (history.count(u), u))
    text_hash = content_hash(texts[user])
    assert text_hash in cached(layout)
    expected = Recommender(layout.bundle(former)).recommend(Request("a stranger", n=5))

    assert "0 events deleted" in kindling("forget", "user", user, "--out", built_copy).out
    before = kindling("forget", "user", user, "--out", built_copy, "--verify")
    assert before.status == 1
    assert "users_ids.parquet, column user_id" in before.out
    assert f"bundles/{former}/users.parquet" in before.out
    again = ("build", "--data", small_data, "--out", built_copy, "--config", small_config)
    rebuilt = kindling(*again)
    assert rebuilt.status == 0, rebuilt.err
    after = kindling("forget", "user", user, "--out", built_copy, "--verify")
    assert (after.status, after.out) == (
        0,
        f"'{user}' is nowhere in the store or in the directory of the build.\n",
    )

    report = read_json(layout.ingest_report)
    assert report["users"]["forgotten"] == 1
    assert report["interactions"]["forgotten"] == history.count(user)
    assert text_hash not in cached(layout)
    others = {content_hash(text) for u, text in texts.items() if u != user and text}
    assert others <= cached(layout)
    assert [v.problem for v in Registry(Folder(layout)).versions()] == [None, None]
    new = current_version(layout)
    assert new != former
    for version in (former, new):
        model = Recommender(layout.bundle(version))
        assert not model.knows_user(user)
        assert model.n_users == len(texts) - 1
    assert Recommender(layout.bundle(former)).recommend(Request(user, n=5)) == expected
    factors = [np.asarray(Recommender(layout.bundle(v)).user_gramian) for v in (former, new)]
    assert not np.array_equal(*factors)  # learnt without them
    assert kindling(*again).err.count("unchanged") == 9  # nobody new to forget: nothing to do
