"""Nothing that is read from storage can run code: no module of ours unpickles anything."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for folder in ("pipelines", "serving", "jobs") for path in (ROOT / folder).rglob("*.py")
)
MODULES = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
CALLS = {"torch.load", "pd.read_pickle", "pandas.read_pickle"}


def unpickles(source: str) -> list[str]:
    """What in a program could load a pickle."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in MODULES]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(str(node.module))
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            allowed = [
                k.arg for k in node.keywords if k.arg == "allow_pickle" and ast.unparse(k.value) != "False"
            ]
            found += ([name] if name in CALLS else []) + [str(word) for word in allowed]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "import torch\ntorch.load('x')", "np.load('x', allow_pickle=True)",
        "def f():\n    import cloudpickle.compat",
    ],
)  # fmt: skip
def test_it_would_be_found(source: str) -> None:
    assert unpickles(source)


def test_no_source_unpickles() -> None:
    assert len(SOURCES) > 200
    assert {str(path): found for path in SOURCES if (found := unpickles(path.read_text()))} == {}
