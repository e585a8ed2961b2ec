"""Conditions of a request on item metadata, see `pipelines.core.conditions`."""

from pipelines.core.conditions import Condition, Filter, Scalar
from pipelines.core.conditions import condition_mask as filter_mask

__all__ = ["Condition", "Filter", "Scalar", "filter_mask"]
