"""The records of Amazon Reviews 2023, one at a time.

Reviews (`Category.jsonl`) and items (`meta_Category.jsonl`) are JSON Lines, ratings alone (`Category.csv`, also
`.train.csv`, `.valid.csv` and `.test.csv`, with `history` or without) are CSV; all of them also with `.gz`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pipelines.core.errors import InputError
from pipelines.core.importers.lines import read_lines

Kind = Literal["reviews", "ratings", "items"]

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
_RATING_HEADER = ["user_id", "parent_asin", "rating", "timestamp"]
_MILLISECONDS_FROM = 1e11
_PRICE = re.compile(r"\d[\d,]*(?:\.\d+)?")


def kind_of(path: Path) -> Kind:
    """What a file holds, by its first line.

    Raises:
        InputError: none of the files of the data set.

    """
    first = next(read_lines(path), b"")
    if path.name.removesuffix(".gz").endswith(".csv"):
        header = first.decode("utf-8-sig", "replace").split(",")
        if header[:4] == _RATING_HEADER:
            return "ratings"
        raise InputError(
            f"{path} begins with {','.join(header)[:200]}, expected {','.join(_RATING_HEADER)}[,history], as the "
            "rating-only files of the set do."
        )
    try:
        record = json.loads(first)
        keys = set(record)
    except (ValueError, TypeError) as e:
        raise InputError(f"{path}: its first line is no JSON object ({e}). Expected JSON Lines.") from e
    if {"user_id", "rating"} <= keys:
        return "reviews"
    if {"parent_asin", "title"} <= keys:
        return "items"
    raise InputError(
        f"{path}: its first line has {', '.join(sorted(map(str, keys)))[:200]}. Expected reviews (user_id, "
        "parent_asin, rating, timestamp) or items (parent_asin, title)."
    )


def review(record: dict[str, Any]) -> dict[str, Any] | str:
    """A review as an interaction, or why it is none. The website writes `sort_timestamp` for `timestamp`."""
    return interaction(
        record.get("user_id"), record.get("parent_asin") or record.get("asin"), record.get("rating"),
        record.get("timestamp", record.get("sort_timestamp")),
    )  # fmt: skip


def interaction(user: object, item: object, rating: object, moment: object) -> dict[str, Any] | str:
    """An interaction from its four values as they are written, or why it is none."""
    if not isinstance(user, str) or not user:
        return "user_id is missing"
    if not isinstance(item, str) or not item:
        return "parent_asin is missing"
    try:
        stars, when = float(rating), float(moment)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "rating or timestamp is no number"
    if not 1 <= stars <= 5:
        return "rating is not 1 to 5"
    if not 0 < when < 1e14:
        return "timestamp is no number of milliseconds"
    seconds = when / 1000 if when >= _MILLISECONDS_FROM else when
    return {"user_id": user, "item_id": item, "weight": stars, "timestamp": seconds}


def item(record: dict[str, Any]) -> dict[str, Any] | str:
    """An item's columns, or why it has none."""
    number = record.get("parent_asin")
    if not isinstance(number, str) or not number:
        return "parent_asin is missing"
    details = _details(record.get("details"))
    store = _text(record.get("store"))
    brand = next((b for k in ("Brand", "Brand Name", "Manufacturer") if (b := _text(details.get(k)))), store)
    title = " ".join(t for k in ("title", "subtitle") if (t := _text(record.get(k))))
    return {
        "item_id": number, "title": title or None, "brand": brand, "categories": _texts(record.get("categories")),
        "description": " ".join(_texts(record.get("description")) + _texts(record.get("features"))) or None,
        "main_category": _text(record.get("main_category")), "store": store, "price": price(record.get("price")),
        "average_rating": _number(record.get("average_rating")), "rating_number": _number(record.get("rating_number")),
        "image_url": _image(record.get("images")),
    }  # fmt: skip


def price(value: object) -> float | None:
    """The number in a price, the least of a range: it is one, or `"$1,299.00"`, `"from 14.99"`, `"None"`, null."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < 1e9 else None
    found = _PRICE.search(value) if isinstance(value, str) else None
    return float(found[0].replace(",", "")) if found else None


def _details(value: object) -> dict[str, Any]:
    """An object, or the same as a string of JSON, as the set's Parquet edition has it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) and value != "None" else None


def _texts(value: object) -> list[str]:
    if isinstance(value, list):
        return [t for v in value if (t := _text(v))]
    only = _text(value)
    return [only] if only else []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _image(value: object) -> str | None:
    """The address of the first large picture: of a list of objects, or of an object of lists."""
    if isinstance(value, dict):
        value = [{"large": large} for large in value.get("large") or []]
    for picture in value if isinstance(value, list) else []:
        if isinstance(picture, dict) and (address := _text(picture.get("large"))):
            return address
    return None
