"""Texts said in other words, so that an encoder learns what they mean: words replaced from a file of synonyms.

Tokens are made once, so are the other wordings: `VARIANTS` of each text, written as a second token table in which text
i of I has its wording v in row v * I + i. Which of them an example reads is drawn each time.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from pipelines.core.errors import ConfigError

VARIANTS = 4
"""Other wordings of each text."""

_CHINESE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LETTER = re.compile(rf"[^\W{_CHINESE}]")
"""What a word of an alphabet goes on with; Chinese and kana have no spaces and no such borders."""


@dataclass(frozen=True)
class Synonyms:
    """What may stand for what.

    Attributes:
        words: lower-case word, or several, to what may replace it.

    """

    words: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON file {word: [words]}.

        Raises:
            ConfigError: it is not there, or something else; says which entry.

        """
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise ConfigError(
                f"finetune.synonyms = '{path}' cannot be read: {e}. Give a JSON file {{word: [words]}} in UTF-8."
            ) from e
        if not isinstance(raw, dict) or not raw:
            raise ConfigError(
                f"finetune.synonyms = '{path}' holds {json.dumps(raw)[:60]}; expected an object {{word: [words]}} of "
                "one word or more."
            )
        words: dict[str, tuple[str, ...]] = {}
        for word, others in raw.items():
            listed = isinstance(others, list) and others
            if not word.strip() or not listed or not all(isinstance(o, str) and o.strip() for o in others):
                raise ConfigError(
                    f"finetune.synonyms = '{path}': the entry {word!r} is {others!r}; expected a word and a list of "
                    "one word or more that may replace it."
                )
            key = _lower(word.strip())
            words[key] = tuple(dict.fromkeys([*words.get(key, ()), *(o.strip() for o in others)]))
        return cls(words)

    @cached_property
    def _lengths(self) -> dict[str, list[int]]:
        """First character to the lengths of the words that begin with it, longest first."""
        found: dict[str, set[int]] = {}
        for word in self.words:
            found.setdefault(word[0], set()).add(len(word))
        return {first: sorted(lengths, reverse=True) for first, lengths in found.items()}

    def replace(
        self, text: str, starts: Sequence[int], share: float, rng: np.random.Generator
    ) -> tuple[str, list[int]]:
        """Another wording, and where its fields begin.

        Whole words only, but Chinese ones wherever they stand; the longest where several fit. Capitals are kept.

        Args:
            text: any.
            starts: where fields begin in it, in characters, rising.
            share: of the words that have synonyms, how many are replaced.
            rng: of which, and by what.

        """
        low, parts, moved = _lower(text), [], list(starts)
        done = place = grown = 0
        field = 0
        while place < len(text):
            while field < len(moved) and starts[field] <= place:
                moved[field] = starts[field] + grown
                field += 1
            word = self._word_at(low, place)
            if not word:
                place += 1
                continue
            if rng.random() < share:
                others = self.words[word]
                new = _as_written(others[int(rng.integers(len(others)))], text[place : place + len(word)])
                parts += [text[done:place], new]
                done = place + len(word)
                grown += len(new) - len(word)
            place += len(word)
        for rest in range(field, len(moved)):
            moved[rest] = starts[rest] + grown
        return "".join([*parts, text[done:]]), moved

    def _word_at(self, low: str, place: int) -> str:
        """The longest known word that begins here, "" for none."""
        for length in self._lengths.get(low[place], ()):
            word = low[place : place + length]
            if word in self.words and _stands_alone(low, place, place + length):
                return word
        return ""


def reworded(
    synonyms: Synonyms,
    texts: Sequence[str],
    starts: Sequence[Sequence[int]],
    share: float,
    seed: Sequence[int],
) -> tuple[list[str], list[list[int]]]:
    """Another wording of each text, and where its fields begin: what `tokenize` wants.

    A text's wording depends on itself and `seed` (the configuration's, and the number of the variant) alone, not on
    how texts are cut into parts.
    """
    found = [
        synonyms.replace(
            text, begins, share, np.random.default_rng([*seed, zlib.crc32(text.encode("utf-8", "replace"))])
        )
        for text, begins in zip(texts, starts, strict=True)
    ]
    return [text for text, _ in found], [begins for _, begins in found]


def _lower(text: str) -> str:
    """Lower case, character by character: as long as `text`."""
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no letter or digit of an alphabet goes on over either end."""
    before = start > 0 and _LETTER.match(text[start - 1]) and _LETTER.match(text[start])
    after = end < len(text) and _LETTER.match(text[end]) and _LETTER.match(text[end - 1])
    return not before and not after


def _as_written(new: str, old: str) -> str:
    """Capitals as in what it replaces: all, the first, or its own."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[0].upper() + new[1:] if old[0].isupper() else new
