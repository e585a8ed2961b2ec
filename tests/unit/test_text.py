"""Cleaning, composing and truncating the text that is embedded."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.text import clean_text, compose_text, truncate_text

MEGABYTE = 1_000_000

# Any string Python can hold, lone surrogates included, and strings made to look like markup.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=80)
MARKUP_PIECES = (
    "< > & ; / ! - = \" ' <p> </p> <b> </b> <br/> <script> </script> <style> </style> <!-- --> <![CDATA[ "
    "]]> &amp; &lt; &gt; amp; lt; #38; &#60; &#8203; &nbsp; a b p x=1 中 \u0301 \u0338 \u0344 \u200d 👩 "
    "\ud800"
)
MARKUP_TEXT = st.lists(st.sampled_from([*MARKUP_PIECES.split(" "), " ", "\t", "\x00"]), max_size=40).map(
    "".join
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("<p>Hello<p>World", "Hello World"),
        ("one<br>two<br/>three", "one two three"),
        ("<ul><li>red<li>blue</ul>", "red blue"),
        ("<table><tr><td nowrap>a<td>b</table>", "a b"),
        ("<div class='x>y'>a</div>b", "a b"),
        ('<a href="/p?a=1&amp;b=2" title="5 > 3">tea</a> pot', "tea pot"),
        ("<b>bold</b>er H<sub>2</sub>O", "bolder H2O"),
        ("<P ALIGN=center>caps</P>", "caps"),
        ("a<script>if (x<y) { '</p>' }</script>b", "a b"),
        ("<style>p { color: red }</style >shown", "shown"),
        ("<script src=x>", ""),
        ("kept <script> when never closed", "kept when never closed"),
        ("a<!-- <p>no</p> & no -->b", "ab"),
        ("<!--[if lte IE 8]> <p>old</p> <![endif]--> <!--[if gt IE 8]><!-->new<!-- <![endif]-->", "new"),
        ("before <!-- never closed", "before never closed"),
        ("<!DOCTYPE html><html><body><frameset>x<p>y</body></html>", "x y"),
        ("<![CDATA[<p>Hi</p>]]>", "Hi"),
        ("<o:p></o:p>Word", "Word"),
        ("<input type='checkbox' disabled>a<hr noshade>b", "a b"),
    ],
)
def test_markup_is_dropped_and_block_tags_part_words(raw: str, expected: str) -> None:
    assert clean_text(raw) == expected


@pytest.mark.parametrize(
    "prose",
    [
        "sizes 3<4",
        "a < b",
        "I <3 tea",
        "x<y and y>z",
        "a<b>c",
        "x<b and a>y",
        "if q<i && i>p",
        "vector<string> and List<Button>",
        "humidity <95%, CV <= 0.01%, CC < 0.2% + 2 mA> Load",
        "<> steel <> black",
        "<http://example.com> <me@example.com>",
        "enter <address> or <e-mail>",
        "R&D at AT&T, R&region, salt&pepper, ?a=1&copy=2",
        "价格 <100元，颜色：红、蓝。「很好」！",
        "全角，标点（保留）：１２３",
        "-->",
        "<li.Fits most",
    ],
)
def test_prose_with_angle_brackets_and_ampersands_survives(prose: str) -> None:
    assert clean_text(prose) == prose


def test_prose_survives_beside_real_markup() -> None:
    assert (
        clean_text("<p>x<y and y>z, 3<4</p><!-- c -->R&D &amp; I <3 tea") == "x<y and y>z, 3<4 R&D & I <3 tea"
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Black &amp; Decker", "Black & Decker"),
        ("Black &amp;amp;amp; Decker", "Black & Decker"),
        ("&lt;p&gt;One&lt;/p&gt;&lt;p&gt;Two", "One Two"),
        ("&amp;lt;b&amp;gt;x&amp;lt;/b&amp;gt;", "x"),
        ("5 &lt; 6 &lt b", "5 < 6 < b"),
        ("it&rsquo;s &#8220;ok&#x201D; &#150; &plusmn;2", "it’s “ok” \u2013 ±2"),
        ("a&nbsp;b&#160;c &nbsp d", "a b c d"),
        ("primers & amp; paint", "primers & paint"),
        ("& Gas; &Gas; &notit;", "& Gas; &Gas; &notit;"),
        ("&#20013;&#x6587;", "中文"),
        ("a&#0;b &#xD800;c &#9999999;d", "a\ufffdb \ufffdc \ufffdd"),
    ],
)
def test_entities_are_decoded_until_none_is_left(raw: str, expected: str) -> None:
    assert clean_text(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", ""),
        (" \t\r\n\x0b\x0c\x1c\x85\u00a0\u2028\u3000 ", ""),
        ("a\tb\u00a0c\u3000d", "a b c d"),
        ("a\x00b\x1bc\x9fd", "abcd"),
        ("zero\u200bwidth \u2060soft\u00adhyphen \ufeffmark \u202ebidi", "zerowidth softhyphen mark bidi"),
        ("lone \ud800 surrogate\udfff", "lone surrogate"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("<\u0338", "\u226e"),
        ("我\u200b喜欢\u200d茶", "我喜欢茶"),
        ("👨\u200d👩\u200d👧 a\u200db \u200d👩 👩\u200d", "👨\u200d👩\u200d👧 ab 👩 👩"),
        ("❤\ufe0f\u200d🔥", "❤\ufe0f\u200d🔥"),
    ],
)
def test_only_visible_characters_and_single_spaces_are_left(raw: str, expected: str) -> None:
    assert clean_text(raw) == expected


def test_a_pile_of_combining_marks_is_cut_to_thirty() -> None:
    # The first mark composes with the letter.
    assert clean_text("e" + "\u0301" * 100) == "\u00e9" + "\u0301" * 29


def test_escaping_without_end_is_given_up_safely() -> None:
    assert "&" not in clean_text("&" + "amp;" * 50 + "lt;p>")


@given(ANY_TEXT | MARKUP_TEXT)
@settings(max_examples=400, deadline=None)
def test_cleaning_settles_and_leaves_only_clean_characters(raw: str) -> None:
    cleaned = clean_text(raw)
    assert clean_text(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert not [char for char in cleaned if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not set(cleaned) & set("\u200b\u200c\u200e\u200f\u2060\ufeff\u00ad")
    assert [char for char in cleaned if char.isspace()] == [" "] * cleaned.count(" ")
    assert cleaned == " ".join(cleaned.split(" ")).strip(" ")
    assert "  " not in cleaned


@given(st.text(st.sampled_from("abc中文，。！ 123"), max_size=60))
def test_text_with_nothing_to_clean_only_loses_spaces(raw: str) -> None:
    assert clean_text(raw) == " ".join(raw.split())


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "unit",
    [
        "<div>",
        "<",
        "<a",
        "< ",
        "<a x=\"'",
        "<a ='\"",
        "<p ",
        "<!--",
        "<script>",
        "<script></script>",
        "<![CDATA[",
        "</p>",
        "&amp;",
        "&",
        "amp;",
        "&#60;",
        "&am&#112;",
        "\u0301\u0316",
        "\u0344",
        "\u200d",
        "\ud800",
        "\x00",
        "中文",
        "a",
    ],
)
def test_a_hostile_megabyte_is_cleaned(unit: str) -> None:
    # Quadratic work on any of these would take hours.
    cleaned = clean_text("<a &" + unit * (MEGABYTE // len(unit)) + ">")
    assert cleaned == clean_text(cleaned)


def test_columns_are_joined_in_order_and_missing_values_skipped() -> None:
    row = {"title": "<b>Red</b> mug", "brand": None, "description": "", "year": float("nan"), "size": 3}
    assert compose_text(row, ["size", "title", "brand", "description", "year", "absent"]) == "3. Red mug"


@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.nan, np.float32("nan"), pd.NA, pd.NaT, Decimal("nan"), "", " ", []]
)
def test_missing_values_of_every_library_are_skipped(missing: object) -> None:
    assert compose_text({"a": "x", "b": missing, "c": "y"}, ["a", "b", "c"]) == "x. y"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["Tools", None, "Tools", "Saws &amp; blades"], "Tools, Saws & blades"),
        (np.array(["Tools", "Saws"], dtype=object), "Tools, Saws"),
        ((["Home", "Kitchen"], ["Home", "Tea"]), "Home, Kitchen, Home, Tea"),
        ({"b", "a"}, "a, b"),
        (1995, "1995"),
        (1995.0, "1995"),
        (np.float32(2.5), "2.5"),
        (np.int64(7), "7"),
        (Decimal("1.50"), "1.50"),
        (float("inf"), "inf"),
        (1e300, "1e+300"),
        (True, "True"),
    ],
)
def test_lists_and_numbers_become_text(value: object, expected: str) -> None:
    assert compose_text({"x": value}, ["x"]) == expected


@pytest.mark.parametrize("value", [b"bytes", {"en": "tea"}, ["ok", b"bytes"]])
def test_values_without_one_reading_as_text_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"column 'x' holds a (bytes|dict)"):
        compose_text({"x": value}, ["x"])


def test_a_part_that_repeats_an_earlier_one_is_skipped() -> None:
    row = {"title": "Red Mug", "description": "red mug.", "brand": "Red"}
    assert compose_text(row, ["title", "description", "brand"]) == "Red Mug. Red"


def test_the_separator_does_not_double_a_full_stop() -> None:
    row = {"a": "It pours.", "b": "很好。", "c": "Why?", "d": "end"}
    assert compose_text(row, "abcd") == "It pours. 很好。 Why? end"
    assert compose_text(row, "abcd", separator=" | ") == "It pours. | 很好。 | Why? | end"
    assert compose_text(row, "ab", separator=".") == "It pours. 很好。"


@pytest.mark.parametrize(
    ("text", "max_chars", "expected"),
    [
        ("short", 10, "short"),
        ("exact", 5, "exact"),
        ("anything", 0, ""),
        ("green tea leaves", 12, "green tea"),
        ("green tea leaves", 9, "green tea"),
        ("green tea leaves", 10, "green tea"),
        ("unbreakablelongword", 10, "unbreakabl"),
        ("a unbreakablelongword", 12, "a unbreakabl"),
        ("我喜欢绿茶和红茶", 5, "我喜欢绿茶"),
        ("tea 我喜欢绿茶", 7, "tea 我喜欢"),
        ("abcde\u0301\u0316fgh", 6, "abcd"),
        ("ab👨\u200d👩\u200d👧", 5, "ab"),
        ("ok 👍🏽 yes", 4, "ok"),
        ("e" + "\u0316" * 9, 4, "e" + "\u0316" * 3),
    ],
)
def test_truncation_cuts_where_a_reader_would(text: str, max_chars: int, expected: str) -> None:
    assert truncate_text(text, max_chars) == expected


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="max_chars is -1"):
        truncate_text("tea", -1)


@given(ANY_TEXT, st.integers(0, 90))
def test_truncation_gives_a_prefix_within_the_limit_and_settles(text: str, max_chars: int) -> None:
    cut = truncate_text(text, max_chars)
    assert len(cut) <= max_chars
    assert text.startswith(cut)
    assert truncate_text(cut, max_chars) == cut
