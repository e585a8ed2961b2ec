"""How pages put things: colours that can be told apart and read, numbers, verdicts, settings in words."""

from __future__ import annotations

import pytest

from pipelines.core.report.calibration_plot import wilson
from pipelines.core.report.page import plain
from pipelines.core.report.theme import CSS_OF, DARK, EMPHASIS, LIGHT, looks
from pipelines.core.report.wording import Verdict, number, ordered_slices, signed, tone, verdict


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, 1 to 21, as WCAG 2 defines it."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_words_and_marks_stand_out_from_the_page(scheme: dict[str, str]) -> None:
    for name in ("ink", "soft", "ahead", "behind"):
        assert contrast(scheme[name], scheme["page"]) >= 4.5
    for name in ("mark", *(f"s{i}" for i in range(8))):
        assert contrast(scheme[name], scheme["page"]) >= 3
    assert (
        LIGHT.keys() == DARK.keys() >= {v.removeprefix("var(--").removesuffix(")") for v in CSS_OF.values()}
    )


def test_looks_are_apart_and_the_emphasised_one_is_nobody_elses() -> None:
    known = looks(["kindling", "popularity", "bm25", "content", "als", "als_text", "irspack", "cmfrec"])
    assert len({(style.color, style.marker) for style in known.values()}) == 8
    many = looks([f"m{i}" for i in range(20)] + ["kindling"])
    assert [name for name, style in many.items() if style.color == EMPHASIS.color] == ["kindling"]
    assert looks(["other", "als"])["als"] == known["als"]  # the same on every page


def test_slices_are_put_in_reading_order() -> None:
    assert ordered_slices(["revealed_10", "x", "revealed_3", "all", "cold", "x"]) == [
        "cold", "all", "revealed_3", "revealed_10", "x",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bounds", "css", "sign"),
    [((0.1, 0.2), "ahead", "▲"), ((-0.2, -0.1), "behind", "▼"), ((-0.1, 0.1), "unclear", "≈"), (None, "unknown", "–"),
     ((0.0, 0.1), "unclear", "≈"), ((-0.1, 0.0), "unclear", "≈")],
)  # fmt: skip
def test_a_difference_is_clear_when_its_interval_leaves_out_zero(
    bounds: tuple[float, float] | None, css: str, sign: str
) -> None:
    assert (verdict(bounds).css, verdict(bounds).sign) == (css, sign)


@pytest.mark.parametrize(
    ("metric", "css", "expected"),
    [
        ("recall@20", "ahead", "ahead"),
        ("gini@20", "ahead", "behind"),
        ("gini@20", "behind", "ahead"),
        ("gini@20", "unclear", "unclear"),
        ("novelty@20", "ahead", "unclear"),
        ("recall@20", "unknown", "unknown"),
    ],
)
def test_a_higher_figure_has_the_colour_of_the_better_only_where_it_is_better(
    metric: str, css: str, expected: str
) -> None:
    assert tone(Verdict(css, "", ""), metric) == expected


def test_settings_are_written_as_people_write_them() -> None:
    known: list[tuple[object, str]] = [
        (None, "–"), (True, "yes"), (False, "no"), (9999, "9999"), (12345, "12,345"), (0.1, "0.1"), (["a", 2], "a, 2"),
        ([], "none"), ("x", "x"), ({"a": 1, "b": {"c": 2}}, "a 1 · b c 2"),
    ]  # fmt: skip
    assert [plain(value) for value, _ in known] == [text for _, text in known]


def test_numbers_are_written_alike() -> None:
    assert [number(None), number(0.12345), number(-0.5), number(9.876, "novelty@20")] == [
        "–",
        "0.1235",
        "−0.5000",
        "9.88",
    ]
    assert [signed(0.01), signed(-0.01), signed(0.0), signed(None)] == ["+0.0100", "−0.0100", "0.0000", "–"]


def test_the_interval_of_a_share_against_known_values() -> None:
    # 4 of 10, and none of 10: Wilson's interval as given by R's binom.wilson
    assert wilson(0.4, 10) == pytest.approx((0.16818, 0.68733), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.27753), abs=1e-4)
