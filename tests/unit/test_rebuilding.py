"""What a rebuild makes of what its parts say."""

from __future__ import annotations

from jobs.rebuilding import _ndcg


def test_figures_of_the_gate_are_told_where_there_are_any() -> None:
    asked = {"is_told": True, "metrics": {"ndcg@10": {"incumbent": 0.12345, "candidate": 0.2}}}
    too_few = asked | {"is_told": False}
    assert _ndcg({"k": 10, "slices": {"warm": asked, "cold": too_few}}) == {"warm": (0.1235, 0.2)}
    assert _ndcg({"version": "v1"}) == {}, "settings or texts changed, and nobody did anything"
