"""`kindling`: build, measure, recommend, serve, look after data. Flags stay few; every knob is in the configuration."""

from __future__ import annotations

import io
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from jobs.alerts_cli import alerts_app
from jobs.data_cli import data_app
from jobs.experiments_cli import experiments_app
from jobs.forgetting_cli import forget_app
from jobs.keys_cli import keys_app
from jobs.models_cli import models_app
from jobs.nightly_cli import nightly, nights_app, schedule
from jobs.options import ConfigOption, OutOption
from jobs.policies_cli import policies_app
from jobs.rebuilding_cli import rebuild
from jobs.runs_cli import runs_app
from jobs.stopping import terminate_cleanly
from jobs.submitting_cli import jobs_app, submit
from pipelines.core.config import load_config, to_toml
from pipelines.core.errors import ConfigError, InputError, KindlingError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Recommendations when there is little or nothing to go on.",
)  # fmt: skip
app.add_typer(data_app, name="data")
app.add_typer(keys_app, name="keys")
app.add_typer(experiments_app, name="experiments")
app.add_typer(policies_app, name="policies")
app.add_typer(forget_app, name="forget")
app.add_typer(models_app, name="models")
app.add_typer(runs_app, name="runs")
app.add_typer(jobs_app, name="jobs")
app.add_typer(alerts_app, name="alerts")
app.add_typer(nights_app, name="nights")
app.command()(rebuild)
app.command()(nightly)
app.command()(schedule)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(submit)

_STOPPED = 130
"""The status of a command ended by Ctrl-C or SIGTERM, as shells have it."""


@app.command()
def build(
    data: Annotated[str, typer.Option("--data", help="Folder, s3:// or gs:// address of the tables.")],
    out: OutOption,
    config: ConfigOption = None,
    from_stage: Annotated[str | None, typer.Option(help="Run this stage and all later ones again.")] = None,
    until_stage: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
) -> None:
    """Build and publish a recommender from tables; what did not change is reused."""
    from jobs.collecting import collect
    from jobs.models import prune_after_build
    from jobs.summary import print_build
    from pipelines.cluster import shutdown
    from pipelines.core.incumbent import Incumbent
    from pipelines.core.layout import Layout
    from pipelines.flow import build as run_build
    from pipelines.flow import exclusive
    from pipelines.progress import Progress

    settings, layout = load_config(config), Layout(out.resolve())
    with terminate_cleanly(), exclusive(layout):
        try:
            collect(settings, layout)
            Incumbent.clear(layout)
            outcomes = run_build(
                settings,
                data,
                layout.root,
                from_stage=from_stage,
                until_stage=until_stage,
                progress=Progress(settings.logs),
            )
        finally:
            shutdown()
    if outcomes[-1].stage == "publish":
        prune_after_build(settings, layout)
    print_build(outcomes, out)


@app.command()
def finetune(
    data: Annotated[str, typer.Option("--data", help="Folder, s3:// or gs:// address of the tables.")],
    out: OutOption,
    config: ConfigOption = None,
) -> None:
    """Teach the encoder as the finetune section says; a build with the same settings goes on from there."""
    from jobs.finetuning import print_finetuning
    from jobs.forgetting import note_forgotten
    from pipelines.cluster import shutdown
    from pipelines.core.layout import Layout
    from pipelines.core.storage import read_json
    from pipelines.flow import build as run_build
    from pipelines.progress import Progress

    settings = load_config(config)
    if settings.finetune.objective == "none":
        raise ConfigError(
            "finetune.objective = 'none': nothing to learn. Set it in a file and give that as --config."
        )
    layout = Layout(out.resolve())
    note_forgotten(settings, layout)
    with terminate_cleanly():
        try:
            run_build(settings, data, layout.root, until_stage="finetune", progress=Progress(settings.logs))
        finally:
            shutdown()
    print_finetuning(read_json(layout.finetune_report), layout)


@app.command()
def tune(
    data: Annotated[str, typer.Option("--data", help="Folder, s3:// or gs:// address of the tables.")],
    out: OutOption,
    config: ConfigOption = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all, earlier ones included; else tune.trials.")
    ] = None,
    stage: Annotated[
        str, typer.Option(help="model: settings of what is fitted; finetune: of what the encoder is taught.")
    ] = "model",
    model: Annotated[
        str | None, typer.Option(help="Of what is fitted: kindling (the default), or the name of a baseline.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Also write the best settings to this file.")] = None,
) -> None:
    """Search for better settings on validation; run again, it goes on where it was stopped."""
    from jobs.forgetting import note_forgotten
    from jobs.tuning import print_tuning, stage_of
    from pipelines.cluster import shutdown
    from pipelines.core.layout import Layout
    from pipelines.core.storage import write_text
    from pipelines.progress import Progress
    from pipelines.tune import tune as run_tune

    settings, searched = load_config(config), stage_of(stage, model)
    note_forgotten(settings, Layout(out.resolve()))
    with terminate_cleanly():
        try:
            tuned = run_tune(
                settings, data, out.resolve(), stage=searched, model=model or "kindling", trials=trials,
                command=shlex.join(["kindling", *sys.argv[1:]]), progress=Progress(settings.logs),
            )  # fmt: skip
        finally:
            shutdown()
    print_tuning(tuned)
    if write is not None:
        write_text(write, tuned.files[0].read_text(encoding="utf-8"))
        print(f"written: {write}")


@app.command()
def evaluate(
    out: OutOption,
    against: Annotated[Path | None, typer.Option(help="Directory of another build to compare with.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file; only its evaluate section is used.")
    ] = None,
    report: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the HTML page here.")] = None,
) -> None:
    """Measure a build, or two side by side; figures that are up to date are told again. Publishes nothing."""
    from jobs.evaluation import print_comparison, print_evaluation, print_report
    from pipelines.cluster import shutdown
    from pipelines.compare import compare_builds, load_measured
    from pipelines.core.layout import Layout
    from pipelines.core.storage import read_json, write_text
    from pipelines.flow import measure
    from pipelines.progress import Progress

    settings = load_config(config).evaluate if config is not None else None
    place, other = out.resolve(), against.resolve() if against is not None else None
    if other == place:
        raise ConfigError(f"--against {against} is --out itself. Give the directory of another build.")
    with terminate_cleanly():
        try:
            # first, for a mistake about the other build should not cost a measurement of this one
            known = load_measured(other, other.name) if other is not None else None
            measure(place, settings, progress=Progress())
        finally:
            shutdown()
    layout = Layout(place)
    print_evaluation(read_json(layout.evaluation))
    if known is not None and other is not None:
        print_comparison(compare_builds(place, known, other, report))
        return
    if report is not None:
        write_text(report, layout.evaluation_report.read_text(encoding="utf-8"))
    print_report(report or layout.evaluation_report)


@app.command()
def recommend(
    out: OutOption,
    text: Annotated[str | None, typer.Option("--text", help="Who the user says they are.")] = None,
    user_id: Annotated[str | None, typer.Option("--user-id", help="A user of the build.")] = None,
    query: Annotated[str | None, typer.Option("--query", help="What they look for.")] = None,
    n: Annotated[int, typer.Option("-n", help="Length of the list.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Say where each score comes from.")] = False,
) -> None:
    """Print a list for a user, a text or a query, without a server."""
    from jobs.summary import print_list
    from serving.recommender import load_current
    from serving.requests import Request

    if text is None and user_id is None and query is None:
        raise InputError("recommend needs to know something: give --text, --user-id or --query.")
    model = load_current(out)
    if user_id is not None and not model.knows_user(user_id):
        Console(stderr=True, markup=False).print(
            f"user '{user_id}' is not in this build: treated as new", style="yellow"
        )
    answer = model.recommend(Request(user_id=user_id, user_text=text, query=query, n=n, explain=explain))
    print_list(model, answer)


@app.command()
def predict(
    out: OutOption,
    text: Annotated[
        list[str] | None, typer.Option("--text", help="A text to classify, or who the user says they are.")
    ] = None,
    user_id: Annotated[str | None, typer.Option("--user-id", help="A user of the build.")] = None,
    query: Annotated[str | None, typer.Option("--query", help="What comes next after these words.")] = None,
    item_id: Annotated[list[str] | None, typer.Option("--item-id", help="Items to choose from.")] = None,
    n: Annotated[int, typer.Option("-n", help="Length of the list.", min=1)] = 10,
) -> None:
    """Ask what `kindling finetune` has taught: classes of texts, ratings, purchases, what comes next."""
    from jobs.predicting import predict_and_print
    from pipelines.core.layout import Layout

    predict_and_print(Layout(out), text or [], user_id, query, item_id, n)


@app.command()
def serve(out: OutOption, config: ConfigOption = None) -> None:
    """Answer over HTTP until stopped. Sections serve, explore and rules of --config win over the build's."""
    from pipelines.cluster import connect, shutdown
    from pipelines.core.layout import Layout
    from serving.choices import choose
    from serving.proxy import choose_proxy

    layout = Layout(out.resolve())
    chosen = choose(layout, config)
    settings = chosen.settings
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    with terminate_cleanly():
        try:
            proxy = choose_proxy(settings)
            connect(settings.ray)
            from serving import app as service
            from serving.guard import is_guarded

            address = service.start(
                layout.root, settings.serve, chosen.rules, settings.explore, chosen.publish
            )
            console.print(
                f"Kindling answers on {address}  ({proxy}; API page: {address}/docs, Ctrl-C stops it)"
            )
            if is_guarded(settings.serve):
                console.print("Callers show a key: `kindling keys add NAME --out OUT` makes one.")
            service.wait_forever()
        except KeyboardInterrupt:
            console.print("stopping")
            service.stop()
        finally:
            shutdown()


@app.command(name="config")
def show_config(config: ConfigOption = None) -> None:
    """Print every setting with its meaning; redirect it into a file to start your own."""
    sys.stdout.write(to_toml(load_config(config)))


@app.command()
def doctor(out: Annotated[Path | None, typer.Option("--out", help="Also check this build.")] = None) -> None:
    """Check that this machine, and optionally a build, has what Kindling needs."""
    from jobs.doctor import run_checks

    if not run_checks(out):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; expected failures are one message and their exit status, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name that is no Unicode must not break a message
            stream.reconfigure(errors="backslashreplace")
    try:
        status = app(standalone_mode=False)
    except KindlingError as e:
        _fail(e, e.exit_code)
    except typer.TyperException as e:  # a wrong flag
        _fail(f"{e.format_message()} See `kindling --help`.", 2)
    except OSError as e:
        _fail(
            f"{e.filename or 'storage'}: {e.strerror or e}. Check the path, its permissions and the space left.",
            5,
        )
    except (KeyboardInterrupt, typer.Abort):
        status = _STOPPED
    except SystemExit as e:  # Ray's own answer to SIGTERM while it starts
        status = _STOPPED if e.code == signal.SIGTERM else e.code
    if status == _STOPPED:
        _fail("stopped; run the same command again to go on", _STOPPED)
    sys.exit(status or 0)


def _fail(message: object, status: int) -> NoReturn:
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    console.print("kindling:", style="bold red", end=" ")
    console.print(str(message))
    sys.exit(status)
