"""Published versions on S3, or what speaks like it: no locks, every change of the pointer on condition.

A push claims its name, uploads the files, then the manifest: without one there is no version. `CURRENT` is put only
if it is still what was read (`If-Match`), so of two writers one is told and looks again. Who deletes says so in
`CURRENT` first: from then on nobody can put that version into service.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pipelines.core.bundle import MANIFEST, check_bundle, check_digest, check_manifest, check_size
from pipelines.core.errors import ArtefactError, BusyError, ConfigError, InputError
from pipelines.core.pointer import Pointer, parse_pointer
from pipelines.core.registry.place import VERSION_NAME
from pipelines.core.storage import digest_file

_TRIES = 20
_CLAIM = ".claim"
"""Digest of the manifest that is to come: two pushes under one name are of the same bytes, or one is refused."""
_ABANDONED = timedelta(days=1)
"""After which a push without a manifest has been killed."""
_BLOCK = 1 << 20
_Condition = dict[str, str]


class _AbsentError(ArtefactError):
    """There is no such object."""


class Bucket:
    """A `Place` at `s3://bucket/prefix`."""

    reuses_names = False  # who deletes cannot tell a new version of the name from the old one

    def __init__(self, address: str) -> None:
        """Over an address; nothing is asked of it yet.

        Args:
            address: `s3://bucket/prefix`, with `?endpoint_override=host:port&scheme=http` for another S3 server, as
                for tables; AWS_ENDPOINT_URL and AWS's other environment variables count too.

        Raises:
            ConfigError: it is no such address.

        """
        parts = urlsplit(address)
        if parts.scheme != "s3" or not parts.netloc:
            raise ConfigError(f"{address!r}: expected s3://bucket/prefix, or a folder.")
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        host = options.get("endpoint_override")
        self._client = _client(
            f"{options.get('scheme', 'https')}://{host}" if host else None, options.get("region")
        )

    def __str__(self) -> str:
        """Without what is said of the server."""
        return f"s3://{self._bucket}/{self._prefix}bundles"

    def where(self, version: str) -> str:
        """The address of one."""
        return f"{self}/{version}"

    def _key(self, version: str, name: str = "") -> str:
        return f"{self._prefix}bundles/{version}/{name}"

    @property
    def _current(self) -> str:
        return f"{self._prefix}CURRENT"

    def names(self) -> list[str]:
        """Of those with a manifest; what is being pushed, or was broken off, is not among them."""
        found = {name for name, files in self._listing().items() if MANIFEST in files}
        return sorted((name for name in found if VERSION_NAME.fullmatch(name)), reverse=True)

    def _listing(self) -> dict[str, dict[str, datetime]]:
        """When each file of each version was written, unfinished ones too."""
        versions: dict[str, dict[str, datetime]] = {}
        for entry in self._list(f"{self._prefix}bundles/"):
            version, _, name = entry["Key"].removeprefix(f"{self._prefix}bundles/").partition("/")
            versions.setdefault(version, {})[name] = entry["LastModified"]
        return versions

    def _list(self, prefix: str) -> Iterator[dict[str, Any]]:
        with self._plain_errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for page in pages:
                yield from page.get("Contents", ())

    def has(self, version: str) -> bool:
        """Whether the manifest is there."""
        return MANIFEST in self.sizes(version)

    def sizes(self, version: str) -> dict[str, int]:
        """Lengths of its objects."""
        root = self._key(version)
        return {entry["Key"].removeprefix(root): int(entry["Size"]) for entry in self._list(root)}

    def read(self, version: str, name: str) -> bytes:
        """The bytes of an object."""
        return b"".join(self._stream(version, name))

    def _stream(self, version: str, name: str) -> Iterator[bytes]:
        key = self._key(version, name)
        with self._plain_errors(key):
            yield from self._client.get_object(Bucket=self._bucket, Key=key)["Body"].iter_chunks(_BLOCK)

    def _manifest(self, version: str) -> tuple[bytes, dict[str, Any]]:
        raw = self.read(version, MANIFEST)
        try:
            document = json.loads(raw)
        except ValueError as e:
            raise ArtefactError(
                f"{self.where(version)}/{MANIFEST} is not JSON: {e}. Build again or roll back."
            ) from e
        return raw, check_manifest(document, self.where(version))

    def check(self, version: str) -> dict[str, Any]:
        """Lengths first, then all bytes streamed through the checksum."""
        _, manifest = self._manifest(version)
        self._check_sizes(version, manifest)
        for name, expected in manifest["files"].items():
            state = hashlib.blake2b(digest_size=16)
            for block in self._stream(version, name):
                state.update(block)
            check_digest(f"{self.where(version)}/{name}", state.hexdigest(), expected)
        return manifest

    def _check_sizes(self, version: str, manifest: dict[str, Any]) -> None:
        sizes = self.sizes(version)
        for name, expected in manifest["files"].items():
            check_size(f"{self.where(version)}/{name}", sizes.get(name), expected)

    def pointer(self) -> Pointer:
        """`CURRENT`."""
        return self._parse(self._read_current()[0])

    def _read_current(self) -> tuple[bytes, _Condition]:
        """What is written in `CURRENT`, and on which condition it may be replaced."""
        try:
            with self._plain_errors(self._current):
                found = self._client.get_object(Bucket=self._bucket, Key=self._current)
                return found["Body"].read(), {"IfMatch": found["ETag"]}
        except _AbsentError:
            return b"", {"IfNoneMatch": "*"}

    def _parse(self, raw: bytes) -> Pointer:
        try:
            document = json.loads(raw)
        except ValueError:
            return Pointer()
        return parse_pointer(document, f"s3://{self._bucket}/{self._current}")

    def update(self, change: Callable[[Pointer], Pointer]) -> Pointer:
        """Put on condition that nobody else has put meanwhile; else from the beginning."""
        body, after = b"", Pointer()
        for _ in range(_TRIES):
            raw, condition = self._read_current()
            if body and raw == body:  # it was put, and only the answer was lost
                return after
            before = self._parse(raw)
            after = change(before)
            body = json.dumps(after.document(), indent=2).encode()
            if after == before or self._put(self._current, body, condition):
                return after
        raise BusyError(f"{self}: others change what is in service again and again. Try again.")

    def _put(self, key: str, body: bytes, condition: _Condition) -> bool:
        """Whether the condition held."""
        with self._plain_errors(key):
            try:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=body, **condition)
            except ClientError as e:
                if e.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
                    return False
                raise
        return True

    def push(self, version: str, root: Path) -> None:
        """Claim the name, then files, then manifest; the same bundle again, or the rest of it, is no mistake."""
        manifest = check_bundle(root, version)
        raw = (root / MANIFEST).read_bytes()
        self._claim(version, hashlib.blake2b(raw, digest_size=16).hexdigest().encode())
        if self.has(version):
            return
        for name in manifest["files"]:
            with self._plain_errors(self._key(version, name)):
                self._client.upload_file(str(root / name), self._bucket, self._key(version, name))
        self._put(self._key(version, MANIFEST), raw, {"IfNoneMatch": "*"})
        self._check_sizes(version, manifest)  # who took a day for it may have been taken for dead

    def _claim(self, version: str, digest: bytes) -> None:
        pointer = self.pointer()
        key, first = self._key(version, _CLAIM), {"IfNoneMatch": "*"}
        if version in (*pointer.removing, *pointer.removed):
            raise InputError(f"version '{version}' was deleted from {self}; its name does not come again.")
        self._put(key, digest, first)
        if self._put(key, digest, first):
            raise ConfigError(
                f"{self}: this S3 server writes whatever the condition (If-None-Match) says, so that two writers could "
                "lose one another's versions. Use one that knows conditional writes, or a folder."
            )
        if self.read(version, _CLAIM) != digest:
            raise InputError(f"{self} has another bundle of the name '{version}'. Build again.")

    def fetch(self, version: str, root: Path) -> None:
        """Each file checked as it comes, then the manifest."""
        raw, manifest = self._manifest(version)
        for name, expected in manifest["files"].items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as handle:
                for block in self._stream(version, name):
                    handle.write(block)
            check_size(f"{self.where(version)}/{name}", path.stat().st_size, expected)
            check_digest(f"{self.where(version)}/{name}", digest_file(path), expected)
        (root / MANIFEST).write_bytes(raw)

    def abandoned(self) -> list[str]:
        """What has no manifest, and has not grown for a day."""
        before = datetime.now(UTC) - _ABANDONED
        found = self._listing().items()
        return [name for name, files in found if MANIFEST not in files and max(files.values()) < before]

    def delete(self, versions: Sequence[str]) -> None:
        """The manifest first, without which there is no version."""
        for version in versions:
            keys = [entry["Key"] for entry in self._list(self._key(version))]
            for key in sorted(keys, key=lambda key: key != self._key(version, MANIFEST)):
                with self._plain_errors(key):
                    self._client.delete_object(Bucket=self._bucket, Key=key)

    @contextmanager
    def _plain_errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as e:
            code = e.response.get("Error", {}).get("Code", "")
            kind = _AbsentError if code in ("404", "NoSuchKey") else ArtefactError
            raise kind(f"s3://{self._bucket}/{key}: {e}. {_HINTS.get(code, _HINT)}") from e
        except (BotoCoreError, Boto3Error) as e:
            raise ArtefactError(f"s3://{self._bucket}/{key}: {e}. {_HINT}") from e


_HINT = "Check the address, AWS_ENDPOINT_URL and the network."
_HINTS = {
    "NoSuchBucket": "Make the bucket, or give another.",
    "NoSuchKey": "It is not there, or was deleted meanwhile.",
    "404": "It is not there, or was deleted meanwhile.",
    "AccessDenied": "The keys in use want s3:ListBucket, GetObject, PutObject and DeleteObject there.",
    "403": "The keys in use want s3:ListBucket, GetObject, PutObject and DeleteObject there.",
}


def _client(endpoint: str | None, region: str | None) -> Any:  # noqa: ANN401 - boto3 has no types
    retries = Config(retries={"mode": "standard", "max_attempts": 4}, connect_timeout=10, read_timeout=60)
    return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=retries)
