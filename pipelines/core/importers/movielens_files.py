"""The files of MovieLens in the three shapes they were published in, as rows of one shape.

| shape | sets | ratings | films | users | tags |
|---|---|---|---|---|---|
| tab | 100K | `u.data`, tabs | `u.item`, `|`, Latin-1, a flag per genre of `u.genre` | `u.user`, `|` | none |
| dat | 1M, 10M | `ratings.dat`, `::` | `movies.dat` | `users.dat`, codes (1M) | `tags.dat` (10M) |
| csv | 20M, 25M, 32M, latest | `ratings.csv` | `movies.csv`, `links.csv` | none | `tags.csv` |
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, Literal

from pipelines.core.errors import InputError
from pipelines.core.importers.archives import Files

Shape = Literal["tab", "dat", "csv"]

_TELLTALE: dict[Shape, tuple[str, str]] = {
    "tab": ("u.data", "u.item"),
    "dat": ("ratings.dat", "movies.dat"),
    "csv": ("ratings.csv", "movies.csv"),
}
_MAX_SMALL_FILE = 512 << 20
"""Bytes of a file of films, users or tags; that of tags of 32M has 72 MB."""

GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""The flags of `u.item`, in order, where `u.genre` does not say."""
_NO_GENRE = frozenset({"unknown", "(no genres listed)", ""})

_AGES = {
    "1": "under 18 years old", "18": "18 to 24 years old", "25": "25 to 34 years old", "35": "35 to 44 years old",
    "45": "45 to 49 years old", "50": "50 to 55 years old", "56": "56 years old or older",
}  # fmt: skip
_OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip
"""Of 1M, by code."""
_SEXES = {"M": "man", "F": "woman"}

# "(1995)", and of series "(2006–2007)" or "(2009– )"
_YEAR = re.compile(r"\s*\((\d{4})(?:\s?[-–]\s?(?:\d{4})?)?\s?\)\s*$")
_ARTICLES = (
    "The|A|An|Le|La|Les|L'|Un|Une|Il|Lo|Gli|I|El|Los|Las|Der|Die|Das|Ein|Eine|Den|Det|De|Het|En|Et|O|Os|As"
)
_ARTICLE_LAST = re.compile(rf"^(?P<name>.+?), (?P<article>{_ARTICLES})(?P<rest> \(.*)?$")


@dataclass(frozen=True)
class Found:
    """A data set among some files: its shape and the folder it lies in."""

    files: Files
    shape: Shape
    folder: str

    def path(self, name: str) -> str | None:
        """Where the file `name` is, None where there is none."""
        path = f"{self.folder}/{name}" if self.folder else name
        return path if path in self.files.names() else None

    def raw(self, name: str) -> bytes:
        """All of a small file, nothing where there is none."""
        path = self.path(name)
        if path is None:
            return b""
        if self.files.size(path) > _MAX_SMALL_FILE:
            raise InputError(
                f"{self.files.where}: {path} has {self.files.size(path)} bytes, and no published one has more than "
                f"{_MAX_SMALL_FILE}. Is it MovieLens?"
            )
        with self.files.open(path) as handle:
            return handle.read()

    def text(self, name: str) -> str:
        """The same as text: UTF-8, and Latin-1 where it is none, as older sets are."""
        raw = self.raw(name)
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            return raw.decode("latin-1")


def find(files: Files) -> Found:
    """Which MovieLens it is.

    Raises:
        InputError: none, or more than one.

    """
    inside: dict[str, set[str]] = {}
    for name in files.names():
        path = PurePosixPath(name)
        if "__MACOSX" not in path.parts:
            inside.setdefault("" if str(path.parent) == "." else str(path.parent), set()).add(path.name)
    found = [
        Found(files, shape, folder)
        for folder, names in inside.items()
        for shape, telltale in _TELLTALE.items()
        if names.issuperset(telltale)
    ]
    if len(found) == 1:
        return found[0]
    wanted = ", or ".join(" and ".join(pair) for pair in _TELLTALE.values())
    if found:
        places = ", ".join(f"{f.folder or '.'} ({' and '.join(_TELLTALE[f.shape])})" for f in found)
        raise InputError(f"{files.where} holds more than one MovieLens: {places}. Give the folder of one.")
    some = ", ".join(files.names()[:8]) or "nothing"
    raise InputError(f"{files.where} is no MovieLens: it has {some}. Expected {wanted} in it.")


def split_title(written: str) -> tuple[str, int | None]:
    """The title as people say it and its year: "Godfather, The (1972)" is ("The Godfather", 1972)."""
    written = written.strip()
    year = _YEAR.search(written)
    title = written[: year.start()] if year else written
    last = _ARTICLE_LAST.match(title)
    if last:
        joint = "" if last["article"].endswith("'") else " "
        title = f"{last['article']}{joint}{last['name']}{last['rest'] or ''}"
    return title, int(year[1]) if year else None


def films(found: Found) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """Each film as (columns, line); None in place of columns where the line makes no sense."""
    if found.shape == "csv":
        ids = {row[0]: row for row in _csv_rows(found, "links.csv", ("movieId", "imdbId", "tmdbId"))}
        for row in _csv_rows(found, "movies.csv", ("movieId", "title", "genres")):
            film = _film(*row, genres=row[2].split("|")) if len(row) == 3 else None
            yield _with_links(film, ids.get(row[0])), ",".join(row)
    elif found.shape == "dat":
        for line in _lines(found.text("movies.dat")):
            # a title may have "::" in it, an id and genres have none
            first, _, rest = line.partition("::")
            title, separator, genres = rest.rpartition("::")
            yield (_film(first, title, genres=genres.split("|")) if separator else None), line
    else:
        flags = _genre_names(found)
        for line in _lines(found.text("u.item")):
            cells = line.split("|")
            is_whole = len(cells) == 5 + len(flags)
            names = [flag for flag, cell in zip(flags, cells[5:], strict=False) if cell == "1"]
            yield (_film(cells[0], cells[1], genres=names, released=cells[2]) if is_whole else None), line


def _film(
    number: str, title: str, *_: str, genres: Iterable[str], released: str = ""
) -> dict[str, Any] | None:
    name, year = split_title(title)
    if not number.strip().isdigit() or not name:
        return None
    if year is None and re.search(r"-\d{4}$", released):  # 01-Jan-1995
        year = int(released[-4:])
    kept = [g for g in genres if g not in _NO_GENRE]
    return {"item_id": number.strip(), "title": name, "year": year, "categories": kept}


def _with_links(film: dict[str, Any] | None, links: list[str] | None) -> dict[str, Any] | None:
    if film is not None and links is not None and len(links) == 3:
        film["imdb_id"] = f"tt{links[1]}" if links[1] else None
        film["tmdb_id"] = links[2] or None
    return film


def _genre_names(found: Found) -> list[str]:
    """Names of the flags: `u.genre` has lines such as `Action|1`."""
    pairs = [line.split("|") for line in _lines(found.text("u.genre"))]
    numbered = {int(number): name for name, number in (p for p in pairs if len(p) == 2) if number.isdigit()}
    return [numbered[n] for n in sorted(numbered)] or list(GENRES)


def users(found: Found) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """Each user as (columns, line), as `films`; none where a set has no users of its own. Zip codes stay behind."""
    if found.shape == "tab":
        for line in _lines(found.text("u.user")):  # 1|24|M|technician|85711
            cells = line.split("|")
            is_whole = len(cells) == 5 and cells[1].isdigit()
            yield (_user(cells[0], f"{cells[1]} years old", cells[2], cells[3]) if is_whole else None), line
    elif found.shape == "dat":
        for line in _lines(found.text("users.dat")):  # 1::F::1::10::48067
            cells = line.split("::")
            is_whole = len(cells) == 5 and cells[3].isdigit() and int(cells[3]) < len(_OCCUPATIONS)
            occupation = _OCCUPATIONS[int(cells[3])] if is_whole else ""
            age = _AGES.get(cells[2]) if is_whole else None
            yield (_user(cells[0], age, cells[1], occupation) if age else None), line


def _user(number: str, age: str, sex: str, occupation: str) -> dict[str, Any] | None:
    if not number.isdigit() or sex not in _SEXES:
        return None
    work = None if occupation in ("other", "none", "") else occupation
    said = ", ".join(part for part in (work, _SEXES[sex], age) if part)
    return {"user_id": number, "description": said, "age": age, "sex": _SEXES[sex], "occupation": work}


def tags(found: Found) -> Iterator[tuple[str, str] | None]:
    """Each tag as (film, words); None for a line that makes no sense."""
    if found.shape == "csv":
        for row in _csv_rows(found, "tags.csv", ("userId", "movieId", "tag", "timestamp")):
            yield (row[1], row[2]) if len(row) == 4 else None
    elif found.shape == "dat":
        for line in _lines(found.text("tags.dat")):
            cells = line.split("::", 2)  # the words may have "::" in them
            yield (cells[1], cells[2].rpartition("::")[0]) if len(cells) == 3 else None


def _lines(text: str) -> Iterator[str]:
    # not splitlines: it knows more ends of lines than the files do
    return (line.rstrip("\r") for line in text.split("\n") if line.strip())


def _csv_rows(found: Found, name: str, expected: tuple[str, ...]) -> Iterator[list[str]]:
    text = found.text(name)
    if not text:
        return
    rows = csv.reader(io.StringIO(text, newline=""))
    header = next(rows, [])
    if tuple(header) != expected:
        raise InputError(
            f"{found.files.where}: {name} begins with {','.join(header)}, expected {','.join(expected)}. Is it "
            "MovieLens?"
        )
    yield from (row for row in rows if row)


class Tabbed(io.RawIOBase):
    """A stream with a tab in the place of every `::`; for files that have neither tab nor quote of their own."""

    def __init__(self, handle: IO[bytes]) -> None:
        """Read from `handle`."""
        self._handle, self._left = handle, b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        """Fill `buffer`; a colon at its end waits for the next one."""
        while True:
            fresh = self._handle.read(len(buffer) - len(self._left))
            block, self._left = self._left + fresh, b""
            if fresh and block.endswith(b":") and not block.endswith(b"::"):
                block, self._left = block[:-1], b":"
            if block or not fresh:
                break
        block = block.replace(b"::", b"\t")
        buffer[: len(block)] = block
        return len(block)
