"""What a build costs as it grows: measured points, fitted lines, and what 10 M items and 1 B interactions need.

    python benchmarks/growth.py [--quick] [--out FILE]

Every point is a generated catalogue (see preparation.py) that the build's own stages work on, on a local Ray, a
fresh one for every stage that is measured. One axis grows at a time. Where embedding is not what is measured, a
small random encoder with vectors as long as the default's stands in. Time and memory of each step are fitted by
least squares as in lines.py. Memory is everything, the object store included, above what Ray takes before it does
anything.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
from lines import AXES, Line, Point, fit
from preparation import Clock, Step, generate, step, watched
from quality import circumstances

from pipelines.core.config import Config, load_config, parse_config, to_toml

Spread = Literal["chunks", "shards", "one node"]


@dataclass(frozen=True)
class Group:
    """Builds that are measured together.

    Attributes:
        stops: last stage of each session: with a Ray of its own, a stage does not show memory that others kept.
        encoder: "random" is one small layer, "default" the packaged model.
        words: of each item's title.
        points: the first is where the others branch off.

    """

    stops: tuple[str, ...]
    encoder: Literal["random", "default"]
    words: int
    points: tuple[Point, ...]


def branches(base: Point, **axes: tuple[int, ...]) -> tuple[Point, ...]:
    """`base`, then one axis at a time multiplied by each of its factors."""
    return (
        base,
        *(replace(base, **{a: getattr(base, a) * f}) for a, factors in axes.items() for f in factors),
    )


_PREPARED, _FITTED = Point(20_000, 50_000, 2_000_000), Point(20_000, 40_000, 1_000_000)
_TINY = Point(4_000, 4_000, 80_000, 64)
FULL = (
    Group(("ingest", "split"), "random", 8, branches(_PREPARED, items=(4,), users=(4,), interactions=(3, 6))),
    Group(("profile", "factorize", "publish"), "random", 8,
          (*branches(_FITTED, items=(8,), users=(8,), interactions=(2, 4)), replace(_FITTED, factors=32))),
    Group(("split", "embed"), "default", 64, branches(Point(2_000, 200, 1_000), items=(4,))),
)  # fmt: skip
QUICK = (
    Group(("ingest", "split"), "random", 8, branches(_PREPARED, interactions=(3,))),
    Group(("profile", "factorize"), "random", 8, branches(_TINY, items=(4,), interactions=(4,))),
)  # fmt: skip

_START = "start of Ray"
TARGET = Point(10_000_000, 20_000_000, 1_000_000_000)
NODE_CPUS, NODE_GB, NIGHT_HOURS = 16, 64, 8.0

STEPS: dict[str, Spread] = {
    "ingest: reading": "chunks",
    "ingest: numbering users": "chunks",
    "split: aggregating pairs": "one node",
    "split: holding out": "one node",
    "split: writing": "one node",
    "embed": "chunks",
    "profile": "shards",
    "factorize": "shards",
    "publish": "one node",
}
"""How each step spreads: over "chunks" of a fixed size, whose memory does not grow; over row "shards", as many as
there are CPUs, whose memory the nodes share; or not at all, so that all of it must fit "one node". (Writing is ten
tasks, but each looks at all pairs.)"""


# the program that is watched


def build(data: str, out: Path, config: Path, until: str) -> None:
    """Run the stages; prints when each was at work."""
    from pipelines import flow  # noqa: PLC0415 - the process that watches needs no Ray
    from pipelines.cluster import connect  # noqa: PLC0415

    settings = load_config(config)
    with step(_START):
        connect(settings.ray)
    flow.build(settings, data, out, until_stage=until, progress=Clock())


def write_encoder(folder: Path) -> None:
    """One layer of random weights with vectors of 384, and a tokenizer of letters."""
    import torch  # noqa: PLC0415 - seconds that only this needs
    from tokenizers import Tokenizer  # noqa: PLC0415
    from tokenizers.models import WordPiece  # noqa: PLC0415
    from tokenizers.pre_tokenizers import BertPreTokenizer  # noqa: PLC0415
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast  # noqa: PLC0415

    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
    tokens = ["[PAD]", "[UNK]", *letters, *("##" + letter for letter in letters)]
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    raw = Tokenizer(WordPiece({token: i for i, token in enumerate(tokens)}, unk_token=special["unk_token"]))
    raw.pre_tokenizer = BertPreTokenizer()
    PreTrainedTokenizerFast(tokenizer_object=raw, **special).save_pretrained(folder)
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 384, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokens), **shape)).save_pretrained(folder)


def settings(point: Point, encoder: str) -> Config:
    """One fitted model, and an evaluation that costs next to nothing."""
    raw = {
        "split": {"newcomers": 0.0},
        "encoder": {"model": encoder, "max_tokens": 16} if encoder else {},
        "factorize": {"n_factors": point.factors},
        "evaluate": {"baselines": [], "bootstrap": 0, "max_users": 200, "ks": [20]},
        "publish": {"refit": False},
    }
    return parse_config(raw, "growth.py")


# the page


def main() -> None:
    """Measure the groups, fit, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer and smaller points, no embed and no publish"
    )
    parser.add_argument(
        "--scratch", type=Path, help="folder for catalogues and builds; default: the system's"
    )
    parser.add_argument("--out", type=Path, help="Markdown page to write")
    parser.add_argument(
        "--build", nargs=4, metavar=("DATA", "OUT", "CONFIG", "UNTIL"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.build:
        data, out, config, until = options.build
        build(data, Path(out), Path(config), until)
        return
    measured: dict[str, list[tuple[Point, Step]]] = {name: [] for name in STEPS}
    header = ["until", *AXES, "factors", "seconds and GB of each step"]
    lines = ["", "## Points", "", f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for group in QUICK if options.quick else FULL:
        for point, steps in run(group, options.scratch):
            shown = {name: s for name, s in steps.items() if name in STEPS and belongs(name, group)}
            for name, found in shown.items():
                measured[name].append((point, found))
            seconds = ", ".join(
                f"{name} {s.seconds:.1f} s {s.memory.total:.2f} GB" for name, s in shown.items()
            )
            lines.append(f"| {group.stops[-1]} | {point} | {seconds} |")
            print(lines[-1], flush=True)
    page = [*lines, *report({name: found for name, found in measured.items() if found})]
    print("\n".join(page[len(lines) :]))
    if options.out:
        command = "python benchmarks/growth.py" + (" --quick" if options.quick else "")
        head = ["# Cost as work grows", "", circumstances(), "", f"Command: `{command}`."]
        options.out.write_text("\n".join([*head, *page]) + "\n", encoding="utf-8")


def belongs(name: str, group: Group) -> bool:
    """Whether a group is there to measure a step."""
    stage = name.split(":", maxsplit=1)[0]
    return stage in group.stops and not (stage == "split" and "embed" in group.stops)


def run(group: Group, scratch: Path | None) -> Iterator[tuple[Point, dict[str, Step]]]:
    """Build every point of a group."""
    for point in group.points:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            root = Path(folder)
            generate(root / "data", point.items, point.users, point.interactions, words=group.words)
            if group.encoder == "random" and "profile" in group.stops:
                write_encoder(root / "encoder")
            encoder = str(root / "encoder") if (root / "encoder").is_dir() else ""
            (root / "config.toml").write_text(to_toml(settings(point, encoder)), encoding="utf-8")
            seen: dict[str, Step] = {}
            for stop in group.stops:
                arguments = [str(root / "data"), str(root / "out"), str(root / "config.toml"), stop]
                steps = watched([__file__, "--build", *arguments])
                idle = next(s.memory.total for s in steps if s.name == _START)
                seen |= {s.name: _above(s, idle) for s in steps}
            yield point, seen


def _above(s: Step, idle_gb: float) -> Step:
    return replace(s, memory=replace(s.memory, total=max(0.0, s.memory.total - idle_gb)))


def report(measured: Mapping[str, list[tuple[Point, Step]]]) -> list[str]:
    """Fitted lines, then the target."""
    times, memories = {}, {}
    for name, found in measured.items():
        of_one_width = [(p, s) for p, s in found if p.factors == found[0][0].factors]
        points = [p for p, _ in of_one_width]
        times[name] = fit(points, [s.seconds for _, s in of_one_width])
        memories[name] = fit(points, [s.memory.total for _, s in of_one_width])
    lines = fitted("Time", "s", times) + fitted("Memory", "GB", memories)
    lines += by_factors(measured.get("factorize", []))
    return lines + needs(times, memories)


def fitted(title: str, unit: str, found: Mapping[str, Line]) -> list[str]:
    """One table of lines."""
    lines = [
        "", f"## {title}", "",
        f"| step | constant {unit} | + {unit} per M items | per M users | per M interactions | exponent (axis) |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, line in found.items():
        cells = " | ".join(f"{slope * 1e6:.3g}" for slope in line.slopes)
        exponent = "–" if np.isnan(line.exponent) else f"{line.exponent:.2f} ({line.axis})"
        lines.append(f"| {name} | {line.constant:.2f} | {cells} | {exponent} |")
    return lines


def by_factors(found: Sequence[tuple[Point, Step]]) -> list[str]:
    """Factorize beside the number of factors."""
    base = found[0][0] if found else None
    rows = sorted((p.factors, s.seconds) for p, s in found if base == replace(p, factors=base.factors))
    if len(rows) < 2:
        return []
    exponent = np.polyfit(np.log([f for f, _ in rows]), np.log([s for _, s in rows]), 1)[0]
    cells = ", ".join(f"{s:.1f} s at {f}" for f, s in rows)
    return [
        "",
        f"Factorize by factors, else as in its first point: {cells}; exponent {exponent:.2f}, constant included.",
    ]


def needs(times: Mapping[str, Line], memories: Mapping[str, Line]) -> list[str]:
    """The target: hours and memory of each step, how many nodes, and what breaks first."""
    cpus = psutil.cpu_count() or 1
    lines = [
        "",
        f"## What {TARGET.items:,} items, {TARGET.users:,} users and {TARGET.interactions:,} interactions need",
        "",
        "The lines at that size, with one model fitted and the factors of the first points. Memory of chunks is what "
        "the largest point took.",
        "",
        f"| step | spreads over | hours on {cpus} CPUs | GB in all |",
        "|---|---|---|---|",
    ]
    hours = {name: line.at(TARGET) / 3600 for name, line in times.items()}
    gb = {name: m.largest if STEPS[name] == "chunks" else m.at(TARGET) for name, m in memories.items()}
    lines += [f"| {name} | {STEPS[name]} | {hours[name]:.2f} | {gb[name]:.1f} |" for name in times]
    alone = sum(h for name, h in hours.items() if STEPS[name] == "one node")
    shared = sum(hours.values()) - alone
    shards_gb = max((gb[name] for name in gb if STEPS[name] == "shards"), default=0.0)
    by_time = shared * cpus / NODE_CPUS / max(NIGHT_HOURS - alone, 1e-9)
    nodes = int(np.ceil(max(by_time, shards_gb / NODE_GB, 1.0)))
    lines += [
        "",
        f"{shared * cpus:.0f} CPU hours spread and {alone:.1f} hours do not. For a night of {NIGHT_HOURS:g} hours that "
        f"takes {nodes} nodes of {NODE_CPUS} CPUs and {NODE_GB} GB, if spreading costs nothing and shards' memory "
        "divides evenly.",
    ]
    limits = {
        name: (NODE_GB - memories[name].constant) / float(memories[name].slopes @ TARGET.sizes)
        for name in memories
        if STEPS[name] == "one node" and memories[name].slopes.any()
    }
    for name, share in sorted(limits.items(), key=lambda limit: limit[1]):
        verdict = f"needs {gb[name]:.0f} GB on one node and " + (
            f"breaks at {share:.2f} of that size"
            if share < 1
            else f"would break at {share:.1f} times that size"
        )
        lines.append(f"- {name} {verdict}.")
    return lines


if __name__ == "__main__":
    main()
