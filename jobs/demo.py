"""`make demo`: generate a catalogue, build it, print a few lists, then ask the running service for some more."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console

_READY_SECONDS = 120
_CONFIG = Path(__file__).parent / "configs" / "demo.toml"
_ASKED: tuple[dict[str, Any], ...] = (
    {"user_text": "I spend most weekends hiking and like light, simple gear", "n": 5},
    {"query": "waterproof tent for two", "n": 3},
    {"user_text": "周末喜欢在家做手冲咖啡，也养了两只猫。", "n": 5},
    {"n": 3},
)

console = Console(highlight=False, soft_wrap=True, markup=False)


def main(directory: Path) -> None:
    """Run the whole demonstration under `directory`; what is there already is reused.

    On a terminal the service goes on, with its console, until Ctrl-C; elsewhere everything ends by itself.
    """
    data, out = directory / "data", directory / "out"
    if not (data / "interactions.parquet").exists():
        _kindling("data", "generate", str(data))
    _kindling("build", "--data", str(data), "--out", str(out), "--config", str(_CONFIG))
    _kindling("recommend", "--out", str(out), "--text", str(_ASKED[0]["user_text"]), "-n", "5")
    _kindling("recommend", "--out", str(out), "--user-id", _some_user(data), "-n", "5", "--explain")
    _serve_and_ask(directory, out, goes_on=sys.stdin.isatty() and sys.stdout.isatty())
    console.print(
        f"\nTo start it again:  .venv/bin/kindling serve --out {out}   then open http://127.0.0.1:8000/console/"
    )


def _kindling(*arguments: str) -> None:
    console.print(f"\n$ kindling {' '.join(arguments)}", style="bold")
    finished = subprocess.run([_program(), *arguments], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def _program() -> str:
    return str(Path(sys.executable).parent / "kindling")


def _some_user(data: Path) -> str:
    import pyarrow.parquet as pq

    return str(pq.read_table(data / "interactions.parquet", columns=["user_id"]).column(0)[0].as_py())


def _titles(data: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    items = pq.read_table(data / "items.parquet", columns=["item_id", "title"])
    return dict(zip(items.column(0).to_pylist(), items.column(1).to_pylist(), strict=True))


def _serve_and_ask(directory: Path, out: Path, *, goes_on: bool) -> None:
    """Start the service on a free port, ask over HTTP, each event changing the next list; `goes_on`: until Ctrl-C."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "serve.toml"
    config.write_text(f"[serve]\nport = {port}\n", encoding="utf-8")
    address = f"http://127.0.0.1:{port}"
    console.print(f"\n$ kindling serve --out {out} --config {config}", style="bold")
    command = [_program(), "serve", "--out", str(out), "--config", str(config)]
    with (
        (directory / "serve.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as service,
    ):
        try:
            _wait_until_ready(address, service, directory / "serve.log")
            titles = _titles(directory / "data")
            answer: dict[str, Any] = {}
            for body in _ASKED:
                answer = _ask(address, body, titles)
            clicked = answer["items"][0]["item_id"]
            console.print(f"... and after a click on {clicked}:")
            _ask(address, {"events": [{"item_id": clicked, "event": "click"}], "n": 3}, titles)
            if goes_on:
                console.print(f"\nTry it yourself:  {address}/console/   (Ctrl-C stops it)", style="bold")
                _wait_for_the_end(service)
        finally:
            service.terminate()
            service.wait(timeout=60)


def _wait_for_the_end(service: subprocess.Popen[bytes]) -> None:
    """Until Ctrl-C, which the service gets as well, or until it ends by itself."""
    try:
        service.wait()
    except KeyboardInterrupt:
        console.print("stopping")


def _wait_until_ready(address: str, service: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if service.poll() is not None:
            sys.exit(f"the service ended with status {service.returncode}; see {log}")
        try:
            with urllib.request.urlopen(f"{address}/health/ready", timeout=2):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
    sys.exit(f"the service was not ready after {_READY_SECONDS} s; see {log}")


def _ask(address: str, body: dict[str, Any], titles: dict[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310
        f"{address}/v1/recommend", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
    console.print(f"POST /v1/recommend {json.dumps(body, ensure_ascii=False)}")
    for item in answer["items"]:
        place = f"{item['rank']}. {item['item_id']}  {item['score']:8.3f}  {item['source']:8}"
        console.print(f"    {place}  {titles[item['item_id']]}")
    return answer


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
