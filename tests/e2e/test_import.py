"""From a zip as GroupLens publishes it to a list of films, with the configuration that the import has written."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipelines.core.layout import Layout
from pipelines.core.storage import read_json
from tests.conftest import SMALL_CONFIG, kindling

pytestmark = [pytest.mark.ray, pytest.mark.slow]

GENRES = ("Western", "Musical", "Horror", "Documentary")
WORDS = {"Western": "Saddle", "Musical": "Chorus", "Horror": "Cellar", "Documentary": "Glacier"}


def write_set(path: Path) -> None:
    """120 films of four genres and 90 people, each of whom likes one genre."""
    draw = np.random.default_rng(5)
    films = [
        (n, GENRES[n % 4], f"{WORDS[GENRES[n % 4]]} Number {n}, The ({1950 + n % 60})") for n in range(1, 121)
    ]
    ratings = []
    for user in range(1, 91):
        for number in draw.permutation(120)[:30]:
            film, genre, _ = films[number]
            stars = draw.choice([4.0, 4.5, 5.0] if genre == GENRES[user % 4] else [1.0, 2.5])
            ratings.append(f"{user},{film},{stars},{964980000 + film}")
    movies = [f'{film},"{title}",{genre}' for film, genre, title in films]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, header, rows in (
            ("movies", "movieId,title,genres", movies),
            ("ratings", "userId,movieId,rating,timestamp", ratings),
            ("tags", "userId,movieId,tag,timestamp", ["1,1,dusty,964980000"]),
            ("links", "movieId,imdbId,tmdbId", ["1,0000001,1"]),
        ):
            archive.writestr(f"ml-latest-small/{name}.csv", "\r\n".join([header, *rows]) + "\r\n")


def test_import_validate_build_recommend(tmp_path: Path) -> None:
    source, to, out = tmp_path / "ml-latest-small.zip", tmp_path / "films", tmp_path / "out"
    write_set(source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    imported = kindling("data", "import", "movielens", source, "--to", to, "--sha256", digest)
    assert imported.status == 0, imported.err
    config = to / "kindling.toml"
    checked = kindling("data", "validate", to, "--config", config)
    assert (checked.status, checked.out.splitlines()[-1]) == (0, "a build would accept these tables")
    small = tmp_path / "small.toml"  # as it was written, and quick
    small.write_text(config.read_text(encoding="utf-8") + SMALL_CONFIG, encoding="utf-8")
    built = kindling("build", "--data", to, "--config", small, "--out", out)
    assert built.status == 0, built.err
    report = read_json(Layout(out).ingest_report)
    assert report["items"] == {"kept": 120, "read": 120}
    assert report["interactions"]["read"] == 2700
    assert report["interactions"]["below_like_threshold"] == 2700 - report["interactions"]["kept"]
    answer = kindling("recommend", "--out", out, "--query", "a western with horses", "-n", "3")
    assert answer.status == 0, answer.err
    assert answer.out.count("Saddle") >= 2, answer.out
