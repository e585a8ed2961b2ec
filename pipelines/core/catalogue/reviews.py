"""Reviews of the shop's goods with a known sentiment, in two languages.

A review is made from an intensity, 0 (hates it) to 4 (loves it), and its sentiment is that, reduced to three. Counting
pleasant words does not find it: praise is put as the denial of a blame and the reverse, a complaint about the courier
says nothing of the goods, and of two statements that contradict each other the one after the turn counts, or, where
both weigh the same, neither.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from pipelines.core.catalogue.opinions import OPINIONS, Opinions
from pipelines.core.catalogue.vocabulary import SHELVES
from pipelines.core.catalogue.wording import pick
from pipelines.core.catalogue.words import Language, Subcategory, fitting

SENTIMENTS = ("negative", "neutral", "positive")
N_INTENSITIES = 5
_NEUTRAL = 2
_KINDS = 4
_VERDICT_SHARE, _FACT_SHARE, _ASIDE_SHARE = 0.7, 0.4, 0.2
"""Of the reviews: say what they think on the whole, tell a fact, speak of the delivery."""


class ReviewConfig(BaseModel):
    """How many reviews to make, in what languages, and how plainly they speak."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_reviews: int = Field(default=1000, ge=1, description="Number of reviews.")
    chinese_share: float = Field(default=0.3, ge=0.0, le=1.0, description="Share of the reviews in Chinese.")
    denied: float = Field(
        default=0.15,
        ge=0.0,
        le=1.0,
        description="Share of the statements put as the denial of their opposite.",
    )
    mixed: float = Field(
        default=0.25,
        ge=0.0,
        le=1.0,
        description="Share of the reviews that also say the opposite, before the turn.",
    )
    hedged: float = Field(
        default=0.3, ge=0.0, le=1.0, description="Share of the statements that begin warily."
    )
    seed: int = Field(default=7, ge=0, description="Seed of every random draw.")


def generate_reviews(config: ReviewConfig) -> pd.DataFrame:
    """Make reviews: text, label (one of SENTIMENTS), intensity (0 to 4), language; the same ones every time.

    All five intensities are as frequent, to the nearest review, and so is neutral half as frequent as either other.
    """
    rng = np.random.default_rng(config.seed)
    n = config.n_reviews
    intensities = rng.permutation(np.arange(n) % N_INTENSITIES)
    is_chinese = rng.permutation(n) < round(config.chinese_share * n)
    languages: list[Language] = ["zh" if chinese else "en" for chinese in is_chinese]
    return pd.DataFrame(
        {
            "text": [
                _review(config, int(intensity), language, rng)
                for intensity, language in zip(intensities, languages, strict=True)
            ],
            "label": [SENTIMENTS[1 + int(np.sign(i - _NEUTRAL))] for i in intensities.tolist()],
            "intensity": intensities,
            "language": languages,
        }
    )


def _review(config: ReviewConfig, intensity: int, language: Language, rng: np.random.Generator) -> str:
    """A fact or two, what is said of some aspect, and a verdict: any of them may be missing, not all that count."""
    shelf = SHELVES[int(rng.integers(len(SHELVES)))][1]
    words, says = OPINIONS[language], _Speaker(config, language, shelf, rng)
    side = int(np.sign(intensity - _NEUTRAL))
    body = says.neither() if side == 0 else says.opinion(side, is_strong=abs(intensity - _NEUTRAL) > 1)
    if side and rng.random() < config.mixed:
        body = [says.statement(-side), _after(pick(words.turns, rng), says.verdict(intensity))]
    elif rng.random() < _VERDICT_SHARE:
        body.append(says.verdict(intensity))
    aside = [pick(words.asides[int(rng.integers(2))], rng)] if rng.random() < _ASIDE_SHARE else []
    return says.joined([*says.facts(), *aside, *body])


def _after(opening: str, sentence: str) -> str:
    """`sentence` where it no longer begins one."""
    is_name = sentence.startswith("I ")
    return opening + (sentence if is_name else sentence[0].lower() + sentence[1:])


class _Speaker:
    """Who writes one review: a language, a product, and chance."""

    def __init__(
        self, config: ReviewConfig, language: Language, shelf: Subcategory, rng: np.random.Generator
    ) -> None:
        self._config, self._language, self._rng = config, language, rng
        self._words: Opinions = OPINIONS[language]
        wording, kind = shelf.words(language), int(rng.integers(_KINDS))
        self._kind = wording.kinds[kind]
        self._use = pick(fitting(wording.uses, kind), rng)
        # each aspect is spoken of once
        aspects = self._words.aspects[shelf.form]
        self._aspects = [aspects[place] for place in rng.permutation(len(aspects))]

    def facts(self) -> list[str]:
        """One, or none."""
        told = self._rng.random() < _FACT_SHARE
        return [pick(self._words.facts, self._rng).format(kind=self._kind, use=self._use)] if told else []

    def verdict(self, intensity: int) -> str:
        """A sentence on the whole."""
        return pick(self._words.verdicts[intensity], self._rng).format(kind=self._kind)

    def statement(self, side: int) -> str:
        """Praise (1) or blame (-1) of an aspect, plain or as a denial."""
        denied = self._rng.random() < self._config.denied
        adjectives = self._words.good if (side > 0) != denied else self._words.bad
        template = pick(self._words.denies if denied else self._words.says, self._rng)
        return self._sentence(
            template.format(aspect=self._aspects.pop(), adjective=pick(adjectives, self._rng))
        )

    def opinion(self, side: int, *, is_strong: bool) -> list[str]:
        """Statements of one side, more of them where feelings are strong."""
        return [self.statement(side) for _ in range(2 if is_strong else 1)]

    def neither(self) -> list[str]:
        """Something that is even, or one thing of each side."""
        if self._rng.random() < 0.5:
            return [self._sentence(pick(self._words.even, self._rng).format(aspect=self._aspects.pop()))]
        side = 1 if self._rng.random() < 0.5 else -1
        return [self.statement(side), _after(pick(self._words.balances, self._rng), self.statement(-side))]

    def _sentence(self, clause: str) -> str:
        hedged = self._rng.random() < self._config.hedged
        stop = "。" if self._language == "zh" else "."
        return (pick(self._words.hedges, self._rng) if hedged else "") + clause + stop

    def joined(self, sentences: list[str]) -> str:
        """Sentences with the spacing and the capitals of the language."""
        if self._language == "zh":
            return "".join(sentences)
        return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
