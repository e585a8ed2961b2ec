"""What the generated shop sells: its departments, and all their shelves in one list."""

from pipelines.core.catalogue.goods_care import CARE
from pipelines.core.catalogue.goods_home import HOME
from pipelines.core.catalogue.goods_leisure import LEISURE
from pipelines.core.catalogue.goods_outdoors import OUTDOORS
from pipelines.core.catalogue.words import Category, Subcategory

CATEGORIES: tuple[Category, ...] = OUTDOORS + HOME + CARE + LEISURE
"""The departments; a category's number is its place here."""

SHELVES: tuple[tuple[int, Subcategory], ...] = tuple(
    (number, subcategory)
    for number, category in enumerate(CATEGORIES)
    for subcategory in category.subcategories
)
"""Every subcategory with its category's number; a shelf's number is its place here."""
