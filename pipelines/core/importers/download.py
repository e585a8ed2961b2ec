"""Files from the web, into a cache: cut off, a download goes on where it stopped; unfinished, it is never used.

What has arrived lies in `NAME.part` beside `state.json`, which says of which version of the file it is (ETag or
date, and length). The part takes the name NAME only when it is as long as the server said and its checksum is right.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from email.message import Message
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from pipelines.core.errors import ArtefactError, BusyError, InputError
from pipelines.core.importers.checksums import Checksum, file_name, is_url
from pipelines.core.importers.watching import Bars
from pipelines.core.storage import read_json, write_json

_BLOCK = 1 << 20
_SILENCE_S = 60.0
"""Without a byte for so long, a connection is given up."""
_FRUITLESS = 3
"""Times in a row that nothing arrives, before it is left to the caller to try again."""
_PAUSE_S = 1.0
"""After a connection that brought nothing; longer after the next."""
_ROUNDS = 50
"""Times that a download goes on by itself where every connection brings something but not all."""


class _CutOff(Exception):
    """The connection ended before the file did."""


def default_cache() -> Path:
    """Where downloads are kept unless the caller says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kindling" / "downloads"


def fetch(source: str, cache: Path, checksums: Sequence[Checksum], bars: Bars) -> Path:
    """The file that `source` names, a path or an address, whole and with the right checksums.

    Raises:
        InputError: it is not there, not what the checksum says, or cannot be told to be whole.
        ArtefactError: it was cut off again and again; the same call goes on from what has arrived.
        BusyError: another process is downloading it.

    """
    if not is_url(source):
        path = Path(source)
        if not path.exists():
            raise InputError(
                f"{source} is not there. Give the path of the file or folder, or its https:// address."
            )
        for checksum in checksums:
            if path.is_dir():
                raise InputError(
                    f"{source} is a folder, and a checksum is of a file. Leave it out, or give the file."
                )
            checksum.check(path, source)
        return path
    scheme = urlsplit(source).scheme
    if scheme != "https" and not (scheme == "http" and checksums):
        raise InputError(
            f"{source}: only https:// is downloaded from, or http:// with --sha256 or --md5, for on the way anybody "
            "can change what comes by http."
        )
    return _Download(source, cache, checksums).run(bars)


class _Download:
    """One address and its place in the cache."""

    def __init__(self, url: str, cache: Path, checksums: Sequence[Checksum]) -> None:
        self.url, self.checksums = url, checksums
        self.folder = cache / blake2b(url.encode(), digest_size=8).hexdigest()
        self.whole = self.folder / file_name(url)
        self.part = self.folder / f"{self.whole.name}.part"
        self.state = self.folder / "state.json"

    def run(self, bars: Bars) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                if self.whole.is_file():
                    self._check(self.whole)
                    return self.whole
                self._get_all(bars)
                self.part.replace(self.whole)
                return self.whole
        except Timeout as e:
            raise BusyError(
                f"{self.url} is being downloaded by another process. Wait until it is done."
            ) from e

    def _check(self, path: Path) -> None:
        """Compare with the checksums; a file that fails is removed, so that the next try starts afresh."""
        try:
            for checksum in self.checksums:
                checksum.check(path, self.url)
        except InputError:
            path.unlink()
            raise

    def _get_all(self, bars: Bars) -> None:
        was_resumed = self.part.exists()
        self._get_rounds(bars)
        try:
            self._check(self.part)
        except InputError:
            if not was_resumed:
                raise
            # what was there before may have been of an older version of the file
            self._get_rounds(bars)
            self._check(self.part)

    def _get_rounds(self, bars: Bars) -> None:
        fruitless = 0
        for _ in range(_ROUNDS):
            before = self._size()
            try:
                self._get(bars)
            except (
                _CutOff, urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError,
            ) as e:  # fmt: skip
                fruitless = 0 if self._size() > before else fruitless + 1
                if fruitless == _FRUITLESS:
                    raise ArtefactError(
                        f"{self.url}: {self._size()} bytes have arrived and no more will: {e}. Run the same command "
                        "again; it goes on from there."
                    ) from e
                time.sleep(_PAUSE_S * fruitless)
            else:
                return
        raise ArtefactError(
            f"{self.url} was cut off {_ROUNDS} times; {self._size()} bytes have arrived. Run the same command again; "
            "it goes on from there."
        )

    def _get(self, bars: Bars) -> None:
        """One connection; it returns when the file is whole."""
        have, state = self._size(), self._known()
        if have and have == state.get("total"):
            return
        if have and not (state.get("validator") or self.checksums):
            have = 0  # nothing could tell that the rest belongs to it
        try:
            response = _open(self.url, have, state.get("validator"), is_checked=bool(self.checksums))
        except urllib.error.HTTPError as e:
            self._explain(e)
            return
        with response:
            if response.status == http.client.PARTIAL_CONTENT and _start(response.headers) == have:
                total = _range_total(response.headers)
            elif response.status == http.client.OK:  # it knows no ranges, or the file has changed
                have, total = 0, _length(response.headers)
            else:
                self.part.unlink(missing_ok=True)
                raise _CutOff(f"status {response.status} with a range that was not asked for")
            if total is None and not self.checksums:
                raise InputError(
                    f"{self.url}: the server does not say how long the file is, so nothing tells whether it came "
                    "whole. Give --sha256."
                )
            self._keep(response, have, total, bars)

    def _keep(self, response: Any, have: int, total: int | None, bars: Bars) -> None:  # noqa: ANN401
        room = shutil.disk_usage(self.folder).free
        if total is not None and total - have > room:
            raise ArtefactError(
                f"{self.url} needs {total - have} more bytes in {self.folder}, where {room} are free."
            )
        write_json(self.state, {"url": self.url, "validator": _validator(response.headers), "total": total})
        with (
            bars(f"downloading {self.whole.name}, MB", (total or 0) >> 20) as advance,
            self.part.open("ab" if have else "wb") as out,
        ):
            advance(have >> 20)
            while block := response.read(_BLOCK):
                out.write(block)
                advance((have + len(block) >> 20) - (have >> 20))
                have += len(block)
            out.flush()
            os.fsync(out.fileno())
        if total is not None and have > total:
            self.part.unlink()
            raise _CutOff(f"{have} bytes came, {total} were announced")
        if total is not None and have < total:
            raise _CutOff(f"the connection ended at {have} of {total} bytes")

    def _explain(self, e: urllib.error.HTTPError) -> None:
        if e.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.part.unlink(missing_ok=True)  # the file has become shorter than what we have of it
            raise _CutOff("the server has no such range") from e
        if e.code >= http.client.INTERNAL_SERVER_ERROR or e.code == http.client.TOO_MANY_REQUESTS:
            raise e
        raise InputError(f"{self.url}: the server answers {e.code} {e.reason}. Check the address.") from e

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _known(self) -> Mapping[str, Any]:
        try:
            state = read_json(self.state)
        except ArtefactError:
            return {}
        return state if isinstance(state, dict) and state.get("url") == self.url else {}


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to where it is as safe as before."""

    def __init__(self, *, is_checked: bool) -> None:
        self._is_checked = is_checked

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https" and not self._is_checked:
            raise InputError(f"{req.full_url} leads to {newurl}, which is not https://. Give --sha256.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _open(url: str, have: int, validator: str | None, *, is_checked: bool) -> Any:  # noqa: ANN401 - http.client's
    headers = {"User-Agent": "kindling", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    opener = urllib.request.build_opener(_Redirects(is_checked=is_checked))
    # the scheme was looked at by the caller, here and in every redirect
    return opener.open(urllib.request.Request(url, headers=headers), timeout=_SILENCE_S)  # noqa: S310


def _validator(headers: Message) -> str | None:
    """What tells this version of the file from others; a weak ETag does not."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _length(headers: Message) -> int | None:
    length = headers.get("Content-Length")
    return int(length) if length and length.isdigit() else None


def _content_range(headers: Message) -> re.Match[str] | None:
    return re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())


def _start(headers: Message) -> int | None:
    found = _content_range(headers)
    return int(found[1]) if found else None


def _range_total(headers: Message) -> int | None:
    found = _content_range(headers)
    return int(found[2]) if found and found[2] != "*" else None
