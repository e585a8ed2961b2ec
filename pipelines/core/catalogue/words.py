"""The types of the generated shop's words: departments, products and phrases, in two languages.

The words themselves stand in the `goods_*` and `phrases_*` modules. The same subcategory has an English and a
Chinese `Wording` and one list of prices, so that an item's taste does not depend on the language it is
described in.
"""

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, Language] = ("en", "zh")

Form = Literal["object", "consumable", "book"]
"""Decides which phrases fit: one wears out an object, uses up a consumable, reads a book."""

STYLES = ("price", "look", "skill", "green", "compact")
"""Style axes of items and of users' preferences; on each, an item has a value around 0 (see `POLES`)."""

POLES: dict[str, tuple[str, str]] = {
    "price": ("budget", "premium"),
    "look": ("minimalist", "colourful"),
    "skill": ("beginner", "expert"),
    "green": ("ordinary", "eco"),
    "compact": ("large", "compact"),
}
"""The name of the negative and of the positive end of each style axis."""


@dataclass(frozen=True)
class Wording:
    """The words for one subcategory in one language.

    `kinds` are product nouns in the singular, parallel in both languages. In English, `materials` follow
    "made from", `features` follow "with", `uses` follow "for" and `hobbies` are gerunds after "I enjoy". In
    Chinese, `materials` follow 采用, `features` are clauses that stand alone, `uses` follow 适合 and
    `hobbies` are verb phrases after 喜欢. A material, feature or use that ends in "@24" fits only the second
    and the fourth kind (a lock has no battery life); `fitting` reads that mark.
    """

    name: str
    kinds: tuple[str, ...]
    materials: tuple[str, ...]
    features: tuple[str, ...]
    uses: tuple[str, ...]
    hobbies: tuple[str, ...]


@dataclass(frozen=True)
class Subcategory:
    """A group of like products; `prices` are the typical price of each kind, in the shop's currency."""

    key: str
    form: Form
    prices: tuple[float, ...]
    en: Wording
    zh: Wording

    def words(self, language: Language) -> Wording:
        """Give the wording in `language`."""
        return self.en if language == "en" else self.zh


@dataclass(frozen=True)
class Category:
    """A department of the shop, with its brands; a brand sells under one language."""

    key: str
    name_en: str
    name_zh: str
    brands_en: tuple[str, ...]
    brands_zh: tuple[str, ...]
    subcategories: tuple[Subcategory, ...]

    def name(self, language: Language) -> str:
        """Give the department's name in `language`."""
        return self.name_en if language == "en" else self.name_zh

    def brands(self, language: Language) -> tuple[str, ...]:
        """Give the brands that describe their goods in `language`."""
        return self.brands_en if language == "en" else self.brands_zh


def fitting(phrases: tuple[str, ...], kind: int) -> tuple[str, ...]:
    """Give the phrases that make sense for product kind number `kind` (from 0), without their "@" mark."""
    plain = []
    for phrase in phrases:
        text, _, only = phrase.partition("@")
        if not only or str(kind + 1) in only:
            plain.append(text)
    return tuple(plain)


@dataclass(frozen=True)
class Phrases:
    """The sentences of one language, as `str.format` templates.

    A template may name `a_kind` (English only: the product with an adjective and its article), `kind`,
    `adj_kind`, `brand`, `material`, `feature`, `feature2`, `use` and `use2`; one whose words an item lacks is
    not used for it. `adjectives` and `style_lines` are keyed by form and then by pole. `hobby_lines` name
    `hobby`, and `hobby2` and `hobby3` where the speaker has as many interests to tell of.
    """

    openers: dict[Form, tuple[str, ...]]
    feature_lines: dict[Form, tuple[str, ...]]
    use_lines: dict[Form, tuple[str, ...]]
    adjectives: dict[Form, dict[str, tuple[str, ...]]]
    style_lines: dict[Form, dict[str, tuple[str, ...]]]
    hobby_lines: tuple[str, ...]
    self_style_lines: dict[str, tuple[str, ...]]
    models: dict[Form, tuple[str, ...]]
    colours: tuple[str, ...]
    book_titles: tuple[str, ...]
    book_adjectives: tuple[str, ...]
    book_nouns: tuple[str, ...]
