"""A real HTTP server on loopback that serves bytes with the manners, good and bad, of servers of data sets."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Manners:
    """How the server behaves; a test changes it between requests.

    Attributes:
        content: what it serves.
        has_ranges: whether it honours Range.
        etag: of the content; none: not said.
        says_length: whether Content-Length is sent.
        cut_after: bytes of each answer after which the connection is closed; none: all are sent.
        stall_after: bytes of each answer after which it says nothing until `go_on`.
        status: sent in the place of an answer.
        redirect: where the first path leads.
        asked: the Range of each request, "" for none.

    """

    content: bytes
    has_ranges: bool = True
    etag: str | None = '"v1"'
    says_length: bool = True
    cut_after: int | None = None
    stall_after: int | None = None
    status: int | None = None
    redirect: str | None = None
    asked: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    manners: Manners

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        manners = self.manners
        manners.asked.append(self.headers.get("Range", ""))
        if manners.status or manners.redirect:
            self.send_response(manners.status or 302)
            self.send_header("Location", manners.redirect or "")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = self._start()
        if start > 0 and start >= len(manners.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(manners.content)}")
            self.end_headers()
            return
        body = manners.content[start:]
        self.send_response(206 if start else 200)
        if start:
            last = len(manners.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(manners.content)}")
        if manners.etag:
            self.send_header("ETag", manners.etag)
        if manners.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._send(body)

    def _start(self) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        fits = condition is None or condition == self.manners.etag
        return int(asked[1]) if asked and self.manners.has_ranges and fits else 0

    def _send(self, body: bytes) -> None:
        manners = self.manners
        if manners.stall_after is not None:
            self.wfile.write(body[: manners.stall_after])
            self.wfile.flush()
            manners.go_on.wait(60)
            self.close_connection = True
            return
        self.wfile.write(body if manners.cut_after is None else body[: manners.cut_after])
        self.close_connection = True


@contextmanager
def serving(manners: Manners) -> Iterator[str]:
    """The address of a server with these manners, without a slash at its end."""
    handler = type("Handler", (_Handler,), {"manners": manners})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        manners.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
