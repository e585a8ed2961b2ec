"""The one place that starts or joins Ray, with the settings that were found to matter (see docs/decisions)."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import Any

from pipelines.core.config import RayConfig
from pipelines.core.errors import KindlingError

_ENVIRONMENT = {
    # a progress line of Ray's own every ten seconds would bury ours
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # the default Parquet reader starts 32 footer processes per read, seconds for a small table
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    # warns about a change of default that does not concern CPU tasks
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray would print a C++ stack for an ordinary SIGTERM and end the process before we can stop cleanly
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    # Ray Data's actors always log an error about their arguments, a known false alarm (ray issue 57733)
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}

_LEAST_CPUS = 2
_PROBE_SECONDS = 5.0


class ClusterError(KindlingError):
    """No Ray cluster could be started or joined."""

    exit_code = 6


def connect(config: RayConfig) -> None:
    """Join the cluster of `config.address` or RAY_ADDRESS, else start Ray on this machine. Idempotent.

    Raises:
        ClusterError: names the address and what to check.

    """
    address = config.address or os.environ.get("RAY_ADDRESS", "")
    set_environment()
    import ray  # noqa: PLC0415 - reads its environment when imported

    if ray.is_initialized():
        return
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address:
        options["address"] = address
    else:
        # fewer than four logical CPUs and Ray Data's helpers wait for each other for ever
        options |= {"num_cpus": config.num_cpus or max(4, os.cpu_count() or 1), "include_dashboard": False}
        options["address"] = "local"
        if config.metrics_port:
            options["_metrics_export_port"] = config.metrics_port
        _stay_on_loopback()
        # Ray asks every process for a token once one is set up; a start of our own needs none beyond loopback
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        if config.object_store_mb:
            options["object_store_memory"] = config.object_store_mb << 20
    _probe(address)
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as e:
        raise ClusterError(
            f"Ray at '{address or 'this machine'}' cannot be used: {e}. Check ray.address and RAY_ADDRESS, "
            "or leave both empty to run on this machine."
        ) from e
    finally:
        # ray.init puts its own in the place of ours
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)
    cpus = ray.cluster_resources().get("CPU", 0.0)
    if cpus < _LEAST_CPUS:
        raise ClusterError(
            f"Ray at '{address or 'this machine'}' has {cpus:g} logical CPUs, {_LEAST_CPUS} are needed. Add a node, "
            "start it with a larger --num-cpus, or raise ray.num_cpus for a start on this machine."
        )
    quiet_data()


def _stay_on_loopback() -> None:
    """Have the processes of a start of our own listen on 127.0.0.1 alone, as Ray has them on a Mac.

    On Linux they listen on all interfaces, and run what anybody sends them.
    """
    from ray._private import ray_constants  # noqa: PLC0415

    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # of the processes that Ray starts
    ray_constants.ENABLE_RAY_CLUSTER = False  # of this one, where Ray may have been imported before


def set_environment() -> None:
    """Settings of Ray's own that must be there before it is imported; what is set already stays."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def _probe(address: str) -> None:
    """Say within seconds that nobody listens at host:port; Ray itself tries for minutes without a word."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # "auto", "local" and ray:// find out by themselves
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as e:
        raise ClusterError(
            f"no Ray cluster answers at '{address}': {e}. Check ray.address and RAY_ADDRESS, or leave both empty "
            "to run on this machine."
        ) from e


def quiet_data() -> None:
    """Ray Data without its own bars, in this process."""
    import ray  # noqa: PLC0415

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # its errors come to us as exceptions; printed as well they would bury the one message that counts
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def shutdown() -> None:
    """Leave Ray, and stop it if this process started it."""
    import ray  # noqa: PLC0415

    ray.shutdown()


def count_cpus() -> int:
    """CPUs worth a process each: the cluster's, but on one node never more than it really has."""
    import ray  # noqa: PLC0415

    nodes = [n for n in ray.nodes() if n["Alive"]]
    logical = int(ray.cluster_resources().get("CPU", 1))
    return max(1, min(logical, os.cpu_count() or 1) if len(nodes) == 1 else logical)


def count_gpus() -> int:
    """GPUs of the cluster."""
    import ray  # noqa: PLC0415

    return int(ray.cluster_resources().get("GPU", 0))


def room_for_actors() -> int:
    """Long-lived processes that fit at once: one per GPU, else one per CPU with at least one CPU left.

    The tasks that feed an actor pool need CPUs too. Where actors hold them all, everybody waits for everybody
    for ever, and Ray says nothing.
    """
    import ray  # noqa: PLC0415

    logical = int(ray.cluster_resources().get("CPU", 1))
    return count_gpus() or max(1, min(count_cpus(), logical - 1 - logical // 16))
