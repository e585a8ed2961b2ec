"""`kindling alerts`: look whether the model has become old, and whether alerts arrive."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from jobs.alerting import deliver, send, webhook_of
from jobs.places import settings_of
from jobs.staleness import in_service
from pipelines.core.errors import ArtefactError, ConfigError
from pipelines.core.layout import Layout
from pipelines.core.logs import log_as_json

console = Console(highlight=False, soft_wrap=True, markup=False)


def check_stale(out: Path, config: Path | None) -> bool:
    """Say how old the version in service is, and tell people where it is too old.

    Returns:
        Whether it is young enough; what is not there is not.

    """
    layout = Layout(out.resolve())
    settings = settings_of(layout, config)
    if settings.logs.format == "json":
        log_as_json()
    alerts, now = settings.alerts, datetime.now(UTC)
    if not alerts.stale_hours:
        console.print("alerts.stale_hours is 0: no model counts as old")
        return True
    try:
        found = in_service(layout)
    except ArtefactError as e:
        _tell(send(alerts, layout, "model_stale", "No model is in service.", {"why": str(e)}), str(e))
        return False
    age = found.hours(now)
    said = f"The model in service is {age:.1f} hours old, {alerts.stale_hours:g} are allowed."
    if age <= alerts.stale_hours:
        console.print(f"{found.version}: {said}")
        return True
    facts = {
        "version": found.version,
        "created_at": found.created_at.isoformat(timespec="seconds"),
        "in_service_since": found.since,
        "hours": round(age, 1),
    }
    _tell(send(alerts, layout, "model_stale", said, facts), f"{found.version}: {said}")
    return False


def _tell(sent: bool, said: str) -> None:
    console.print(said)
    console.print(
        "An alert was sent." if sent else "No alert was sent: see the log above and alerts.json in OUT."
    )


def send_trial(out: Path, config: Path | None) -> bool:
    """Send an alert that means nothing and say what became of it.

    Raises:
        ConfigError: there is nowhere to send it.

    """
    layout = Layout(out.resolve())
    settings = settings_of(layout, config).alerts
    if not webhook_of(settings):
        raise ConfigError(
            "alerts.webhook is not set: set it in a file and give that as --config, or set KINDLING_ALERT_WEBHOOK."
        )
    why = deliver(settings, layout, "test", "This is a trial: alerts arrive here.", {})
    console.print("delivered" if why is None else f"not delivered: {why}")
    return why is None
