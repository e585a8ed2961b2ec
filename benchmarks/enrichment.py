"""What relations and attributes change: builds that differ in one weight, on the validation slices.

    python benchmarks/enrichment.py NAME --data DIR --config FILE.toml [--columns brand categories] [--out DIR]

Relations are generated from item columns; attributes take part where the config has labels. All builds share one
output directory, so that texts are encoded once. Settings are chosen by these figures, hence no test slice here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from quality import ROOT, circumstances

from pipelines.core.config import Config, load_config, to_toml
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json

RELATION_WEIGHTS = (0.35, 0.5)
FEATURE_WEIGHTS = (0.3, 0.6)
METRICS = ("recall@20", "ndcg@20")
SLICES = ("cold", "warm", "all")


def main() -> None:
    """Build each variant, then write benchmarks/results/enrichment_NAME.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--columns", nargs="+", default=["brand", "categories"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    header = [f"{m} {s}" for m in METRICS for s in SLICES]
    lines = ["| variant | " + " | ".join(header) + " |", "|" + "---|" * (len(header) + 1)]
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary) / "out"
        for name, config in variants(load_config(options.config), options.columns).items():
            path = Path(temporary) / "variant.toml"
            path.write_text(to_toml(config), encoding="utf-8")
            figures = measure(options.data, path, out)
            cells = [f"{figures[s][m]:.4f}" for m in METRICS for s in SLICES]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    command = f"python benchmarks/enrichment.py {options.name} --data DIR --config {options.config}"
    head = [
        f"# Enrichment: {options.name}", "", circumstances(), "",
        f"Command: `{command} --columns {' '.join(options.columns)}`. Validation slices, means over users.", "",
    ]  # fmt: skip
    target = ROOT / "benchmarks" / "results" / f"enrichment_{options.name}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
    print(f"written to {target}")


def variants(base: Config, columns: list[str]) -> dict[str, Config]:
    """The config without enrichment, then one change at a time."""
    base = changed(changed(base, "publish", refit=False), "split", newcomers=0.0)  # one model is enough
    base = changed(changed(base, "relations", weight=0.0, weights={}), "attributes", feature_weight=0.0)
    base = changed(base, "evaluate", baselines=(), bootstrap=0)
    found = {"without": base}
    for chosen in [[c] for c in columns] + ([columns] if len(columns) > 1 else []):
        for weight in RELATION_WEIGHTS:
            name = f"relations {'+'.join(chosen)} {weight}"
            found[name] = changed(base, "relations", columns=tuple(chosen), weight=weight)
    for weight in FEATURE_WEIGHTS if base.attributes.labels else ():
        found[f"attributes {weight}"] = changed(base, "attributes", feature_weight=weight)
    return found


def changed(config: Config, section: str, **values: object) -> Config:
    """The configuration with other values in one section."""
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def measure(data: str, config: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Build as far as the evaluation; the model's validation figures by slice."""
    command = [str(Path(sys.executable).parent / "kindling"), "build", "--data", data, "--out", str(out)]
    subprocess.run(
        [*command, "--config", str(config), "--until-stage", "evaluate"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    figures: dict[str, dict[str, Any]] = read_json(Layout(out).evaluation)["validation"]["kindling"]
    return figures


if __name__ == "__main__":
    main()
