"""Texts as numbers, made once: a table of tokens that every process maps into memory and none has to load.

Stored without special tokens, so that several texts can be put into one sequence; `Template` knows which
special tokens a model wants around one text, or around two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.core.errors import ArtefactError, ConfigError
from pipelines.core.storage import replacing

TokenArray = npt.NDArray[np.int32]

_SCHEMA = pa.schema([("tokens", pa.list_(pa.int32())), ("fields", pa.list_(pa.int8()))])


def write_tokens(path: Path, parts: Iterable[pa.RecordBatch]) -> None:
    """Write a token table, whole or not at all; parts have the columns `tokens` and `fields`."""
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA) as out,
    ):
        for part in parts:
            out.write(part)


def tokenize(
    tokenizer: Any,  # noqa: ANN401 - transformers has no types
    texts: Sequence[str],
    spans: Sequence[Sequence[int]],
    most: int,
) -> pa.RecordBatch:
    """One part of a token table.

    Args:
        tokenizer: a fast one.
        texts: to be cut after `most` tokens.
        spans: of each text, where its second and later fields begin, in characters, rising.
        most: tokens of a text.

    """
    found = tokenizer(
        list(texts), add_special_tokens=False, truncation=True, max_length=most, return_offsets_mapping=True,
        return_attention_mask=False, return_token_type_ids=False,
    )  # fmt: skip
    tokens = [np.asarray(ids, dtype=np.int32) for ids in found["input_ids"]]
    fields = [
        np.searchsorted(
            np.asarray(starts, dtype=np.int64), [last - 1 for _, last in offsets], side="right"
        ).astype(np.int8)
        for starts, offsets in zip(spans, found["offset_mapping"], strict=True)
    ]
    return pa.record_batch(
        [pa.array(tokens, pa.list_(pa.int32())), pa.array(fields, pa.list_(pa.int8()))], schema=_SCHEMA
    )


class TokenTable:
    """Tokens of many texts by row number; a view of a file, shared by all processes of a node.

    Other wordings of the same texts may stand beside them (`core.finetune.synonyms`): wording v of row i of I in row
    v * I + i of a table of its own.
    """

    def __init__(self, table: pa.Table, wordings: TokenTable | None = None) -> None:
        """Take the columns of a token table."""
        self._wordings = wordings
        tokens = table.column("tokens").combine_chunks()
        self._starts = tokens.offsets.to_numpy()
        self._tokens: TokenArray = tokens.values.to_numpy()
        self._fields = table.column("fields").combine_chunks().values.to_numpy()

    @classmethod
    def open(cls, path: Path, wordings: TokenTable | None = None) -> Self:
        """Map a file that `write_tokens` made.

        Raises:
            ArtefactError: it is not there or not whole.

        """
        try:
            return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all(), wordings)
        except (OSError, pa.ArrowException) as e:
            raise ArtefactError(f"{path} cannot be read: {e}. Run `kindling finetune` again.") from e

    def __len__(self) -> int:
        """Texts."""
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> TokenArray:
        """Tokens of a text; read-only."""
        return self._tokens[self._starts[row] : self._starts[row + 1]]

    def wording(self, row: int, rng: np.random.Generator) -> tuple[TokenTable, int]:
        """Table and row to read a text from: itself or one of its other wordings, all as likely."""
        number = int(rng.integers(len(self._wordings) // len(self) + 1)) if self._wordings is not None else 0
        if self._wordings is None or not number:
            return self, row
        return self._wordings, (number - 1) * len(self) + row

    def fields(self, row: int) -> npt.NDArray[np.int8]:
        """Of each token of a text, the number of the field it came from."""
        found: npt.NDArray[np.int8] = self._fields[self._starts[row] : self._starts[row + 1]]
        return found


@dataclass(frozen=True)
class Template:
    """The special tokens of a model: before a text, between two, and after.

    Attributes:
        prefix: such as [CLS].
        middle: such as [SEP], between two texts; where a model has none, the end-of-text token.
        suffix: such as [SEP].

    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any, before: str = "") -> Self:  # noqa: ANN401
        """Found out by looking at what the tokenizer makes of one text and of two.

        `before` is what an encoder wants before every text (`encoder.prefix`); it begins a sequence, once.

        Raises:
            ConfigError: it makes of them what no template describes.

        """
        word = tokenizer("a", add_special_tokens=False)["input_ids"]
        one, two = tokenizer("a")["input_ids"], tokenizer("a", "a")["input_ids"]
        at = _find(one, word, 0)
        if at is None or not word:
            raise ConfigError(
                f"the tokenizer {type(tokenizer).__name__} makes {one} of a text it makes {word} of alone"
            )
        prefix, suffix = one[:at], one[at + len(word) :]
        second = _find(two, word, at + len(word))
        middle = two[at + len(word) : second] if second is not None else []
        if not middle and tokenizer.eos_token_id is not None:
            middle = [tokenizer.eos_token_id]
        if not prefix + middle + suffix:  # no special tokens at all: any will do to stand for an empty text
            middle = [tokenizer.pad_token_id or 0]
        # a space at its end belongs to the text: some tokenizers make a token of it, others part of the next word
        asked = tokenizer(before.rstrip(), add_special_tokens=False)["input_ids"] if before.strip() else []
        return cls((*prefix, *asked), tuple(middle), tuple(suffix))

    def one(self, tokens: Sequence[int] | TokenArray, most: int) -> list[int]:
        """A text of at most `most` tokens, the special ones included.

        Of an empty text and no special tokens it makes one that separates texts: a network needs something to read.
        """
        room = most - len(self.prefix) - len(self.suffix)
        found = [*self.prefix, *_ints(tokens[: max(room, 0)]), *self.suffix]
        return found or list(self.middle[:1])

    def several(self, parts: Sequence[Sequence[int] | TokenArray], most: int) -> list[int]:
        """Texts in one sequence; where there is no room for all of them, each keeps an equal share of it."""
        room = most - len(self.prefix) - len(self.suffix) - len(self.middle) * max(len(parts) - 1, 0)
        kept = _equal_shares([len(p) for p in parts], max(room, 0))
        found = list(self.prefix)
        for number, (part, length) in enumerate(zip(parts, kept, strict=True)):
            found += [*(self.middle if number else ()), *_ints(part[:length])]
        return [*found, *self.suffix][:most] or list(self.middle[:1])


def _ints(tokens: Sequence[int] | TokenArray) -> list[int]:
    return tokens.tolist() if isinstance(tokens, np.ndarray) else list(tokens)


def _find(sequence: list[int], part: list[int], start: int) -> int | None:
    places = (i for i in range(start, len(sequence) - len(part) + 1) if sequence[i : i + len(part)] == part)
    return next(places, None)


def _equal_shares(lengths: Sequence[int], room: int) -> list[int]:
    """Lengths cut to `room` in sum, the longest first; what a short one leaves goes to the others."""
    kept = [0] * len(lengths)
    left = room
    for place, i in enumerate(sorted(range(len(lengths)), key=lambda i: lengths[i])):
        kept[i] = min(lengths[i], left // (len(lengths) - place))
        left -= kept[i]
    return kept
