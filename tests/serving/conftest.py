"""The shop of `shop.py`, built once, and a recommender over it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.core.encoder import Encoder
from serving.recommender import Recommender
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
