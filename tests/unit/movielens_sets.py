"""Made-up films, users and ratings, written exactly as GroupLens publishes MovieLens."""

from __future__ import annotations

import zipfile
from pathlib import Path

FLAGS = 19

_ITEM = "|".join


def _flags(*numbers: int) -> list[str]:
    return ["1" if n in numbers else "0" for n in range(FLAGS)]


TAB = {  # 100K: Latin-1, `|`, a flag per genre; the last lines are blank
    "u.data": "7\t1\t5\t881250949\n7\t3\t2\t881250950\n9\t1\t4\t891717742\n9\t267\t1\t891717743\n",
    "u.item": "\n".join(
        [
            _ITEM(["1", "Café Lumière (1994)", "01-Jan-1994", "", "http://us.imdb.com/M/x", *_flags(5, 8)]),
            _ITEM(["3", "Lantern, The (1996)", "16-Feb-1996", "", "http://us.imdb.com/M/y", *_flags(1)]),
            _ITEM(["267", "unknown", "", "", "", *_flags(0)]),
            "",
        ]
    ),
    "u.user": "7|24|M|technician|85711\n9|53|F|other|94043\n",
    "u.genre": "unknown|0\nAction|1\nAdventure|2\nAnimation|3\nChildren's|4\nComedy|5\nCrime|6\nDocumentary|7\n"
    "Drama|8\n"
    "Fantasy|9\nFilm-Noir|10\nHorror|11\nMusical|12\nMystery|13\nRomance|14\nSci-Fi|15\nThriller|16\nWar|17\nWestern|18\n\n",
    "u.occupation": "other\ntechnician\n",
}

MILLION = {  # 1M: Latin-1, `::`, codes of ages and occupations
    "ratings.dat": "1::11::5::978300760\n1::12::3::978302109\n2::11::4::978301968\n",
    "movies.dat": "11::Château d'Eau, Le (1999)::Drama\n12::Robots: Part II (1987)::Action|Children's|Sci-Fi\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
}

TEN_MILLION = {  # 10M: UTF-8, half stars, tags, no users; titles and tags may have `::` in them
    "ratings.dat": "1::122::5::838985046\n1::185::0.5::838983525\n8::122::4.5::838983392\n",
    "movies.dat": "122::Boomerang: The Return (1992)::Comedy|Romance\n185::Net::Work (1995)::(no genres listed)\n",
    "tags.dat": "15::122::excellent!::1215184630\n20::122::Boats::1188263867\n"
    "21::122::boats::1188263868\n22::185::a::b::1\n",
}

LATEST = {  # latest, 20M, 25M, 32M: CSV with a header, UTF-8, quoted titles, CRLF as in latest-small of some years
    "ratings.csv": "userId,movieId,rating,timestamp\r\n"
    "1,1,4.0,964982703\r\n1,3,4.5,964981247\r\n2,1,0.5,964982224\r\n2,4,5.0,964982225\r\n",
    "movies.csv": "movieId,title,genres\r\n1,Paper Boats (1995),Adventure|Children\r\n"
    '3,"City of Lanterns, The (Cité des lanternes, La) (1995)",Drama|Sci-Fi\r\n'
    "4,Series of Letters (2006–2007),(no genres listed)\r\n",
    "tags.csv": 'userId,movieId,tag,timestamp\r\n2,1,"funny, dry",1445714994\r\n'
    "3,1,boats,1445714996\r\n4,1,Boats,1445714996\r\n",
    "links.csv": "movieId,imdbId,tmdbId\r\n1,0114709,862\r\n3,0113228,\r\n",
}

FOLDERS = {"ml-100k": TAB, "ml-1m": MILLION, "ml-10M100K": TEN_MILLION, "ml-latest-small": LATEST}
ENCODINGS = {"ml-100k": "latin-1", "ml-1m": "latin-1"}


def write_folder(name: str, directory: Path) -> Path:
    """The set `name`, unpacked below `directory`."""
    folder = directory / name
    folder.mkdir(parents=True)
    for file, text in FOLDERS[name].items():
        (folder / file).write_bytes(text.encode(ENCODINGS.get(name, "utf-8")))
    return folder


def write_zip(name: str, directory: Path) -> Path:
    """The set `name`, as it is downloaded: a zip with one folder in it."""
    path = directory / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}/", "")
        for file, text in FOLDERS[name].items():
            archive.writestr(f"{name}/{file}", text.encode(ENCODINGS.get(name, "utf-8")))
        archive.writestr(f"{name}/README", "as published")
    return path
