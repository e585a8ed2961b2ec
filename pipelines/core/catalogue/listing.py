"""The tables that text goes into: items with titles and prices, users with what they say of themselves."""

import numpy as np
import pandas as pd

from pipelines.core.catalogue.behaviour import Doubles
from pipelines.core.catalogue.tastes import Floats, ItemTraits, UserTraits
from pipelines.core.catalogue.vocabulary import CATEGORIES, SHELVES
from pipelines.core.catalogue.wording import ItemFacts, describe_item, describe_user, pick, title_item
from pipelines.core.catalogue.words import POLES, STYLES, Language, fitting

_TITLE_ONLY_SHARE = 0.01
_SILENT_USER_SHARE = 0.05
_MARKED = 0.7
"""A style value further from 0 than this is marked enough to be told of."""


def list_items(items: ItemTraits, created_at: Doubles, rng: np.random.Generator) -> pd.DataFrame:
    """Word every item; all titles differ, and about one item in a hundred has no description ("")."""
    n_items = len(items.shelf)
    facts = [_facts(items, item, rng) for item in range(n_items)]
    brands = [pick(fact.category.brands(fact.language), rng) for fact in facts]
    titles = _distinct_titles(facts, brands, rng)
    is_bare = rng.permutation(n_items) < max(1, round(_TITLE_ONLY_SHARE * n_items))
    return pd.DataFrame(
        {
            "item_id": [f"item-{item:06d}" for item in range(n_items)],
            "title": titles,
            "description": [
                "" if bare else describe_item(fact, brand, rng)
                for fact, brand, bare in zip(facts, brands, is_bare, strict=True)
            ],
            "brand": brands,
            "categories": [_categories(fact, rng) for fact in facts],
            "price": _prices(items, facts, rng),
            "created_at": created_at,
        }
    )


def _facts(items: ItemTraits, item: int, rng: np.random.Generator) -> ItemFacts:
    category, subcategory = SHELVES[items.shelf[item]]
    language, kind = _language(bool(items.is_chinese[item])), int(items.kind[item])
    materials = fitting(subcategory.words(language).materials, kind)
    return ItemFacts(
        language=language,
        category=CATEGORIES[category],
        subcategory=subcategory,
        kind=kind,
        material=pick(materials, rng) if materials else "",
        poles=_marked_poles(items.styles[item])[:2],
    )


def _distinct_titles(facts: list[ItemFacts], brands: list[str], rng: np.random.Generator) -> list[str]:
    """Give each item a title that no other has; a number is the last resort of a very large shop."""
    taken: set[str] = set()
    titles = []
    for fact, brand in zip(facts, brands, strict=True):
        title = title_item(fact, brand, rng)
        tries = 0
        while title in taken:
            tries += 1
            title = title_item(fact, brand, rng)
            if tries > 20:
                title = f"{title} {tries}"
        taken.add(title)
        titles.append(title)
    return titles


def _categories(fact: ItemFacts, rng: np.random.Generator) -> list[str]:
    """List the category and, for nine items of ten, the subcategory: shops forget to fill it in."""
    names = [fact.category.name(fact.language), fact.subcategory.words(fact.language).name]
    return names if rng.random() < 0.9 else names[:1]


def _prices(items: ItemTraits, facts: list[ItemFacts], rng: np.random.Generator) -> Doubles:
    """Price each item by its kind and by how premium it is, so that its wording and its price agree."""
    typical = np.array([fact.subcategory.prices[fact.kind] for fact in facts])
    premium = items.styles[:, STYLES.index("price")]
    price = typical * np.exp(0.45 * premium + 0.08 * rng.standard_normal(len(facts)))
    # Ends in .99 as prices do, or in a half below ten.
    return np.where(price < 10.0, np.maximum(np.round(2.0 * price) / 2.0, 0.5), np.round(price) - 0.01)


def list_users(users: UserTraits, rng: np.random.Generator) -> pd.DataFrame:
    """Let users say something of themselves, all but about one in twenty ("")."""
    n_users = len(users.interests)
    is_silent = rng.permutation(n_users) < round(_SILENT_USER_SHARE * n_users)
    languages = [_language(bool(chinese)) for chinese in users.is_chinese]
    return pd.DataFrame(
        {
            "user_id": [f"user-{user:06d}" for user in range(n_users)],
            "description": [
                "" if is_silent[user] else _self_description(users, user, languages[user], rng)
                for user in range(n_users)
            ],
            "language": languages,
        }
    )


def _self_description(users: UserTraits, user: int, language: Language, rng: np.random.Generator) -> str:
    """Tell of up to three interests, and of all of them only where there is a single one."""
    shelves = rng.permutation(np.flatnonzero(users.interests[user]))
    n_told = int(rng.integers(1, min(3, max(1, len(shelves) - 1)) + 1))
    hobbies = [pick(SHELVES[shelf][1].words(language).hobbies, rng) for shelf in shelves[:n_told]]
    poles = _marked_poles(users.styles[user])
    return describe_user(language, list(dict.fromkeys(hobbies)), poles, rng)


def _marked_poles(styles: Floats) -> tuple[str, ...]:
    """Name the style ends marked enough to tell of, the most marked first; being ordinary is not one."""
    order = np.argsort(-np.abs(styles), kind="stable")
    names = [POLES[STYLES[axis]][int(styles[axis] > 0)] for axis in order if abs(styles[axis]) > _MARKED]
    return tuple(name for name in names if name != "ordinary")


def _language(is_chinese: bool) -> Language:
    return "zh" if is_chinese else "en"
