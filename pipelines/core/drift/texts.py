"""The catalogue and its texts: what is gone and new, how long texts are, what they say, where their vectors lie."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from pipelines.core.blend import normalize
from pipelines.core.drift.findings import Comparison, Findings, Group, percent
from pipelines.core.drift.matching import Match
from pipelines.core.drift.measures import histogram, stability_index
from pipelines.core.drift.sources import Source, pick

FloatArray = npt.NDArray[np.float32]
_HAN = r"\p{Han}"


def compare_members(found: Comparison, what: str, group: Group, match: Match) -> None:
    """How many are gone, and how many new; `what` is `items` or `users`."""
    gone, new = match.n_before - match.n_common, match.n_after - match.n_common
    for word, n, total, of in (
        ("gone", gone, match.n_before, f"the former {what}"),
        ("new", new, match.n_after, f"the {what}"),
    ):
        share = n / total if total else None
        says = (
            f"There were no {what}." if share is None
            else f"{n:,} of {of} ({total:,}) are {word}, which is {percent(share)}."
        )  # fmt: skip
        counts = (match.n_before, match.n_after)
        found.group(group).add(f"{what}_{word}", "count", f"share {word}", counts, share, says)


def compare_hidden(found: Comparison, before: Source, after: Source) -> None:
    """How many items lists never show."""
    sides = tuple(_share(s.hidden) for s in (before, after))
    found.group("catalogue").rise("items_hidden", (sides[0], sides[1]), "of the items are hidden")


def compare_texts(found: Comparison, before: Source, after: Source, items: Match) -> None:
    """Whether there are texts, how long they are, in what script, and whether they are the same."""
    findings = found.group("texts")
    texts = [s.texts(rows) for s, rows in zip((before, after), items.samples, strict=True)]
    lengths = [pc.utf8_length(t).to_numpy(zero_copy_only=False).astype(np.float64) for t in texts]
    empty = [_share(n == 0) for n in lengths]
    findings.rise("texts_empty", (empty[0], empty[1]), "of the items have no text")
    if all(len(n) for n in lengths):
        middle = [float(np.median(n)) for n in lengths]
        says = f"Half of the texts are longer than {middle[1]:,.0f} characters; before: {middle[0]:,.0f}."
        distance = stability_index(lengths[0], lengths[1])
        findings.add("text_length", "number", "stability index", (middle[0], middle[1]), distance, says)
        found.histograms["characters of a text"] = histogram(lengths[0], lengths[1])
    han = [_share(pc.match_substring_regex(t, _HAN).to_numpy(zero_copy_only=False)) for t in texts]
    findings.rise("han", (han[0], han[1]), "of the items have Chinese characters", either_way=True)
    old, new = (s.texts(rows) for s, rows in zip((before, after), items.common, strict=True))
    changed = _share(pc.not_equal(old, new).to_numpy(zero_copy_only=False))
    says = (
        "No item is in both builds." if changed is None
        else f"{percent(changed)} of the items that are in both builds have another text."
    )  # fmt: skip
    findings.add("texts_changed", "share", "share changed", (None, changed), changed, says)


def compare_vectors(found: Comparison, before: Source, after: Source, items: Match, n_embedding: int) -> None:
    """Where the texts lie for the encoder: their mean, and each text by itself."""
    findings = found.group("texts")
    means = [normalize(s.text_mean[None, :n_embedding])[0] for s in (before, after)]
    is_same = bool(before.encoder) and before.encoder == after.encoder
    if not is_same or not means[0].any() or not means[1].any():
        why = (
            "One of the builds has no texts." if is_same
            else "The encoder is another one: its vectors have nothing to do with those of before."
        )  # fmt: skip
        for name in ("text_mean", "text_vectors"):
            findings.add(name, "number", "1 - cosine", (None, None), None, why)
        return
    moved = max(0.0, float(1 - means[0] @ means[1]))
    says = f"The mean of all embeddings has turned by {np.degrees(np.arccos(np.clip(1 - moved, -1, 1))):.0f} degrees."
    findings.add("text_mean", "number", "1 - cosine", (None, None), moved, says)
    _compare_each(findings, before, after, items, n_embedding)


def _compare_each(findings: Findings, before: Source, after: Source, items: Match, n_embedding: int) -> None:
    old, new = (
        normalize(pick(s.item_profiles, rows)[:, :n_embedding])
        for s, rows in zip((before, after), items.common, strict=True)
    )
    has_text = old.any(axis=1) & new.any(axis=1)
    if not has_text.any():
        says = "No item has a text in both builds."
        findings.add("text_vectors", "number", "1 - cosine", (None, None), None, says)
        return
    moved = max(0.0, float(1 - np.einsum("ij,ij->i", old[has_text], new[has_text]).mean()))
    says = f"The vector of one item's text has a cosine of {1 - moved:.2f} with that of before, in the mean."
    findings.add("text_vectors", "number", "1 - cosine", (None, None), moved, says)


def _share(flags: npt.NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None
