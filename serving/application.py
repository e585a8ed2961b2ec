"""The service for who starts Ray Serve themselves: `import_path: serving.application:build` of a Serve config.

KubeRay's RayService does, and `serve deploy`. Host, port and proxy are then theirs, and how long that proxy waits.
"""

from __future__ import annotations

from pathlib import Path

from ray import serve

from pipelines.core.errors import ConfigError
from pipelines.core.layout import Layout
from serving.app import build_deployment
from serving.choices import choose
from serving.store.connecting import store_url
from serving.store.store import open_store

_EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens by it
_KNOWN = {"out", "config"}


def build(args: dict[str, str]) -> serve.Application:
    """What `kindling serve` runs, without starting anything.

    Args:
        args: `out`, directory of the build; optionally `config`, a TOML file as for `kindling serve`. Both as the nodes
            see them.

    Raises:
        ConfigError: another argument, or a file that is none.
        ArtefactError: nothing is published there.

    """
    if "out" not in args or args.keys() - _KNOWN:
        raise ConfigError(
            f"args of serving.application:build are {sorted(args)}. Expected out, and config where there is a file."
        )
    layout = Layout(Path(args["out"]))
    chosen = choose(layout, Path(args["config"]) if "config" in args else None)
    # whose proxy it is says where it listens: whether keys are wanted must not rest on a host that is not looked at
    settings = chosen.settings.serve.model_copy(update={"host": _EVERYWHERE})
    open_store(store_url(settings.store, layout.root)).close()
    return build_deployment(layout.root, settings, chosen.rules, chosen.settings.explore, chosen.publish)
