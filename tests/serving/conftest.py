"""The shop of `shop.py`, built once, and a recommender over it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from pipelines.core.encoder import Encoder
from serving.recommender import Recommender
from serving.store.store import Store, open_store
from tests.serving.databases import BACKENDS, Server
from tests.serving.shop import CONFIG, Shop, build_shop


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder(CONFIG.encoder, device="cpu")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Shop:
    return build_shop(tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out"), encoder)


@pytest.fixture(scope="session")
def model(shop: Shop, encoder: Encoder) -> Recommender:
    return Recommender(shop.bundle, encoder)


@pytest.fixture
def out(shop: Shop, tmp_path: Path) -> Path:
    """A copy of the output directory, for tests that change it."""
    return Path(shutil.copytree(shop.out, tmp_path / "out"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("postgres"))
    yield made
    made.stop()


@pytest.fixture(params=BACKENDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A store without tables, of each kind."""
    if request.param == "sqlite":
        file = tmp_path / "store.sqlite"
        file.touch()  # as whoever makes the tables does: one that is not there has been taken away
        return URL.create("sqlite", database=str(file))
    found: URL = request.getfixturevalue("server").database()
    return found


@pytest.fixture
def url(empty_url: URL) -> URL:
    open_store(empty_url).close()
    return empty_url


@pytest.fixture
def store(url: URL) -> Iterator[Store]:
    made = Store(url)
    yield made
    made.close()
