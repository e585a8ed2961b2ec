"""A published version read from its directory and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.core.blend import item_vectors
from pipelines.core.bundle import BundlePaths, check_bundle
from pipelines.core.bundle_arrays import check_items
from pipelines.core.collected import StorePoint
from pipelines.core.config import Config, load_config
from pipelines.core.encoder import Encoder, encoder_fingerprint
from pipelines.core.errors import ArtefactError
from pipelines.core.index import ApproximateRanker, load_index
from pipelines.core.ranking import ExactRanker, Ranker
from pipelines.core.schema import N_INTERACTIONS, N_WANTED
from pipelines.core.storage import read_table, read_tensors
from serving.catalogue import Catalogue, Items
from serving.users import Users, load_maps

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[Any]


class Popularity:
    """Scores of items for somebody of whom nothing is known."""

    def __init__(self, factors: FloatArray, mean_user: FloatArray) -> None:
        """Of a version.

        Args:
            factors: (n, F) of its items.
            mean_user: (F,) what is predicted of a user without text.

        """
        self._mean_user = mean_user
        typical = factors @ mean_user
        self._least = float(typical.min(initial=np.inf))
        self._spread = (float(np.ptp(typical)) if len(typical) else 1.0) or 1.0

    def __call__(self, wanted: npt.NDArray[np.int64], factors: FloatArray) -> FloatArray:
        """(n,) scores: most wanted first; items nobody touched in the order of the model's mean user."""
        part = np.clip((factors @ self._mean_user - self._least) / (2.0 * self._spread), 0.0, 0.5)
        return np.asarray(wanted.astype(np.float32) + part, dtype=np.float32)


@dataclass(frozen=True)
class Loaded:
    """What a version holds.

    Attributes:
        manifest: see `core.bundle`.
        config: it was built with.
        maps: the maps A and B, text means, gramians.
        catalogue: its items.
        popularity: scores of items, late ones too, for strangers.
        encoder: it was made with.
        users: its users' half.

    """

    manifest: dict[str, Any]
    config: Config
    maps: dict[str, Matrix]
    catalogue: Catalogue
    popularity: Popularity
    encoder: Encoder
    users: Users


def load(root: Path, encoder: Encoder | None, threads: int) -> Loaded:
    """The bundle in `root`.

    Args:
        root: of the bundle.
        encoder: shared if it is the one the bundle was made with.
        threads: that rank.

    Raises:
        ArtefactError: the bundle is incomplete, corrupt, or was made with another encoder.

    """
    manifest = check_bundle(root)
    paths = BundlePaths(root)
    config, maps = load_config(paths.config), load_maps(paths)
    catalogue, popularity = _load_items(paths, config, maps, threads)
    encoder = encoder or _load_encoder(paths, config, manifest)
    point = StorePoint.of_manifest(manifest)
    users = Users(config, paths, encoder, maps, catalogue.bundle.profiles.shape, point)
    return Loaded(manifest, config, maps, catalogue, popularity, encoder, users)


def _load_items(
    paths: BundlePaths, config: Config, maps: dict[str, Matrix], threads: int
) -> tuple[Catalogue, Popularity]:
    table, arrays = read_table(paths.items), read_tensors(paths.item_arrays)
    check_items(paths, table, arrays, maps)
    factors, profiles = arrays["factors"], arrays["profiles"]
    evidence = table.column(N_INTERACTIONS).to_numpy()
    vectors = item_vectors(factors, profiles, evidence, config.blend)
    ranker: Ranker = (
        ApproximateRanker(vectors, load_index(paths.item_index, vectors.shape[1]))
        if paths.item_index.exists()
        else ExactRanker(vectors, threads)
    )
    popularity = Popularity(factors, maps["user_map"][-1])
    scores = popularity(table.column(N_WANTED).to_numpy(), factors)
    return Catalogue.of(Items(table, factors, profiles, vectors, scores), ranker), popularity


def _load_encoder(paths: BundlePaths, config: Config, manifest: dict[str, Any]) -> Encoder:
    settings = config.encoder
    if paths.encoder.is_dir():
        return Encoder(settings.model_copy(update={"model": str(paths.encoder)}))
    encoder = manifest.get("encoder")
    expected = encoder.get("fingerprint") if isinstance(encoder, dict) else None
    found = encoder_fingerprint(settings)
    if found != expected:
        raise ArtefactError(
            f"the bundle was made with encoder {settings.model} of fingerprint {expected}, here it is {found}: "
            "other weights, or a processor without bfloat16. Install the same, or build again here; "
            "encoder.dtype = 'float32' is the same on every machine."
        )
    return Encoder(settings)
