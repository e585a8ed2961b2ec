"""Text to words, for whatever counts words."""

from __future__ import annotations

import re

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKENS = re.compile(rf"[{_HAN}]+|[^\W_{_HAN}]+")
_IS_HAN = re.compile(rf"[{_HAN}]")


def tokenize(text: str) -> list[str]:
    """Lower-case words; Chinese, which has no spaces, as single characters and pairs of neighbours."""
    tokens: list[str] = []
    for run in _TOKENS.findall(text.lower()):
        if _IS_HAN.match(run):
            tokens += run
            tokens += (run[k : k + 2] for k in range(len(run) - 1))
        else:
            tokens.append(run)
    return tokens
