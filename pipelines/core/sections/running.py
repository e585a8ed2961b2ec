"""Settings of publishing, serving, and Ray."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.core.sections.base import Positive, Section


class PublishConfig(Section):
    """What is put into service."""

    refit: bool = Field(
        True, description="publish a model fitted on every row; false: the one the figures were measured on"
    )
    keep: Positive = Field(
        3,
        description="published versions kept, the one in service and the newest; those that experiments try stay too",
    )
    keep_days: Annotated[float, Field(ge=0, lt=1e6)] = Field(
        0.0, description="younger versions are kept too, however many there are; 0: whatever their age"
    )
    registry: str = Field(
        "",
        description="where versions go and services take them from: another folder, or s3://bucket/prefix, of "
        "other servers with ?endpoint_override=host:port&scheme=http or AWS_ENDPOINT_URL; empty: OUT itself",
    )
    allow_code: bool = Field(
        False,
        description="take versions from the registry that bring Python code (encoder.trust_remote_code); only "
        "a --config given to the service can say so",
    )

    @field_validator("registry")
    @classmethod
    def _check_registry(cls, value: str) -> str:
        if "@" in value or (
            "://" in value and not re.fullmatch(r"s3://[^\s/?#]+(/[^\s?#]*)?(\?\S+)?", value)
        ):
            raise ValueError(
                "expected a folder or s3://bucket/prefix, without keys: AWS_ACCESS_KEY_ID and the like are for those"
            )
        return value


class ServeConfig(Section):
    """The HTTP service."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="port to listen on")
    replicas: Positive = Field(
        1,
        description="processes that answer; two or more survive a crash unnoticed; with max_replicas: at the start",
    )
    min_replicas: Positive | None = Field(
        None, description="fewest replicas where max_replicas is set; unset: 1"
    )
    max_replicas: Positive | None = Field(
        None,
        description="most replicas, started and stopped by load; unset or as min_replicas: a fixed number",
    )
    target_requests: Annotated[float, Field(gt=0)] = Field(
        16.0,
        description="requests in progress that one replica should have; replicas are added above, taken away below",
    )
    threads: Annotated[int, Field(ge=0)] = Field(
        0,
        description="that rank in one replica; 0: the CPUs of the machine over the replicas, at most 8",
    )
    index: Literal["auto", "exact", "approximate"] = Field(
        "auto",
        description="how items are ranked: exact misses none; approximate finds all but one or two in a hundred by an "
        "index, made when published; auto: exact up to index_items items",
    )
    index_items: Positive = Field(
        500_000, description="items up to which auto ranks exactly, see docs/decisions/0012"
    )
    proxy: Literal["auto", "haproxy", "python"] = Field(
        "auto",
        description="what stands before the replicas; auto: HAProxy, or Serve's own where that cannot run",
    )
    store: str = Field(
        "",
        description="where events and users are kept: sqlite:////absolute/path, or postgresql://user@host/database "
        "with the password in PGPASSWORD or ~/.pgpass; empty: OUT/store.sqlite. Replicas on several machines need "
        "PostgreSQL",
    )
    auth: Literal["auto", "keys", "off"] = Field(
        "auto",
        description="keys: callers show one that `kindling keys add` made; auto: keys unless host is this machine only",
    )
    rate_limit: Annotated[int, Field(ge=0)] = Field(
        0,
        description="requests a second that each replica takes from one key, over ten seconds; beyond it 429; 0: any",
    )
    access_log: bool = Field(False, description="a line in Serve's log for every request")
    diversity: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="share of unlikeness to the items above in an item's place; a request may say otherwise",
    )
    max_body_bytes: Positive = Field(1_000_000, description="largest request; beyond it the answer is 413")
    max_n: Positive = Field(500, description="longest list a request may ask for")
    max_text_chars: Positive = Field(4000, description="longest text a request may carry")
    max_events: Positive = Field(500, description="most events a request may carry")
    max_texts: Positive = Field(64, description="most texts that one request may have encoded")
    max_ids: Positive = Field(10_000, description="most ids in exclude_ids")
    audience_users: Positive = Field(
        500, description="known users drawn to say whom a new item would be shown to; solved once a version"
    )
    max_ongoing_requests: Positive = Field(64, description="answered at once by one replica")
    max_queued_requests: Positive = Field(
        256, description="that wait for their turn in one replica; beyond this the answer is 503"
    )
    request_timeout_s: Annotated[float, Field(gt=0)] = Field(
        5.0, description="seconds, waiting included, before a request is given up with 503"
    )
    drain_seconds: Annotated[float, Field(gt=0)] = Field(
        20.0, description="a replica that is told to stop takes at most so long to finish what it has begun"
    )
    traces: str = Field(
        "",
        description="an OpenTelemetry collector (OTLP over HTTP), such as http://collector:4318; empty: no traces. "
        "Wants kindling[traces]",
    )
    reload_seconds: Annotated[float, Field(gt=0)] = Field(
        2.0, description="how often a replica looks for a newly published version"
    )
    items_seconds: Annotated[float, Field(gt=0)] = Field(
        0.5,
        description="how often a replica looks for items that have come or changed, and for their first events",
    )
    experiment_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        5.0, description="how often a replica looks for experiments that were started, changed or stopped"
    )

    @model_validator(mode="after")
    def _check_replicas(self) -> ServeConfig:
        if self.min_replicas is not None and self.max_replicas is None:
            raise ValueError(
                f"min_replicas is {self.min_replicas} and max_replicas is not set: set both, or `replicas` alone"
            )
        if self.min_replicas is not None and self.min_replicas > (self.max_replicas or 0):
            raise ValueError(
                f"min_replicas is {self.min_replicas}, expected at most max_replicas, {self.max_replicas}"
            )
        return self

    @field_validator("traces")
    @classmethod
    def _check_traces(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError(
                "expected http://host:4318 or https://..., without a user or a query; keys of a collector go into "
                "OTEL_EXPORTER_OTLP_HEADERS"
            )
        return value


class LogsConfig(Section):
    """What commands say while they work."""

    format: Literal["text", "json"] = Field(
        "text",
        description="json: every line one object with the time, the run and the job, for programs that collect it",
    )


class RayConfig(Section):
    """Where the work runs."""

    address: str = Field(
        "",
        description='of a running cluster, "auto" to find one; empty: RAY_ADDRESS if set, else this machine',
    )
    num_cpus: Annotated[int, Field(ge=0)] = Field(
        0, description="logical CPUs of a local start; 0: those of the machine, at least 4 so nothing starves"
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0,
        description="where a local start shows the metrics of all replicas, on 127.0.0.1; 0: any free port",
    )
    object_store_mb: Annotated[int, Field(ge=0)] = Field(
        0, description="shared memory of a local start in MiB; 0: Ray's choice"
    )
