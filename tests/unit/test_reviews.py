"""Generated reviews: the same every time, and of the sentiment they are said to be."""

from __future__ import annotations

from pipelines.core.catalogue.opinions import OPINIONS
from pipelines.core.catalogue.reviews import SENTIMENTS, ReviewConfig, generate_reviews


def test_the_same_every_time() -> None:
    config = ReviewConfig(n_reviews=50)
    assert generate_reviews(config).equals(generate_reviews(config))
    other = generate_reviews(ReviewConfig(n_reviews=50, seed=8))
    assert not generate_reviews(config)["text"].equals(other["text"])


def test_shares() -> None:
    made = generate_reviews(ReviewConfig(n_reviews=1000, chinese_share=0.3))
    assert made["label"].value_counts().to_dict() == {"negative": 400, "positive": 400, "neutral": 200}
    assert (made["language"] == "zh").sum() == 300
    assert made["text"].nunique() > 950
    is_chinese = made["text"].str.contains(r"[\u4e00-\u9fff]")
    assert (is_chinese == (made["language"] == "zh")).all()


def test_a_verdict_says_what_the_label_does() -> None:
    made = generate_reviews(ReviewConfig(n_reviews=2000))
    found = 0
    for language, words in OPINIONS.items():
        own = made[made["language"] == language]
        for intensity, verdicts in enumerate(words.verdicts):
            for verdict in (v for v in verdicts if "{" not in v and len(v) > 5):
                ends = own[own["text"].str.lower().str.endswith(verdict.lower())]
                assert set(ends["intensity"]) <= {intensity}
                found += len(ends)
    assert found > 500


def test_plain_speech_has_adjectives_of_its_side_only() -> None:
    made = generate_reviews(ReviewConfig(n_reviews=400, denied=0.0, mixed=0.0, chinese_share=0.0))
    good = [f" {a}" for a in OPINIONS["en"].good if a != "convincing"]
    texts = made[made["label"] == "negative"]["text"]
    assert not texts.map(lambda text: any(f"{a}." in text for a in good)).any()


def test_words_alone_do_not_decide() -> None:
    made = generate_reviews(ReviewConfig(n_reviews=400, chinese_share=0.0))
    told = made["text"].map(lambda text: any(a in text for a in OPINIONS["en"].bad))
    assert told[made["label"] == "positive"].mean() > 0.3


def test_sentiments() -> None:
    made = generate_reviews(ReviewConfig(n_reviews=10))
    assert set(zip(made["intensity"], made["label"], strict=True)) == {
        (i, SENTIMENTS[s]) for i, s in enumerate((0, 0, 1, 2, 2))
    }


def test_a_single_review() -> None:
    assert len(generate_reviews(ReviewConfig(n_reviews=1))) == 1
