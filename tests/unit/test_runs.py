"""What a run did is written down with every stage, whatever end it has."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from jobs.runs_cli import runs_app
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.layout import Layout
from pipelines.core.logs import JsonFormatter, log_line
from pipelines.core.memory import PeakMemory
from pipelines.core.report.timeline import timeline
from pipelines.core.row_counts import rows_read, rows_written
from pipelines.core.runs import RUN_SCHEMA, StageRecord, list_runs, read_run, recording, running_ids
from pipelines.core.storage import read_json, write_json, write_rows, write_table


def stage(name: str, started: float | None = 0.0, **changes: object) -> StageRecord:
    facts: dict[str, object] = {
        "stage": name, "reused": started is None, "started": started, "seconds": 2.5,
        "peak_mb": None if started is None else 300.0, "rows_in": {"tables/items": 5}, "rows_out": {"pairs": 7},
        "summary": {},
    }  # fmt: skip
    return StageRecord(**(facts | changes))  # type: ignore[arg-type]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_a_run_tells_what_it_did(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDLING_JOB_ID", "nightly-7")
    with recording(layout, "s3://bucket/data") as recorder:
        ids = running_ids()
        recorder.add(stage("ingest", None))
        recorder.add(stage("split", recorder.record.started + 1))
        assert list_runs(layout)[0].status == "running"  # of this very process
    assert running_ids() == {}
    (run,) = list_runs(layout)
    assert ids == {"run_id": run.run_id, "job_id": "nightly-7"}
    assert (run.status, run.data, [s.stage for s in run.stages]) == (
        "done",
        "s3://bucket/data",
        ["ingest", "split"],
    )
    assert run.finished is not None
    assert run.finished >= run.started
    assert read_run(layout, "last") == read_run(layout, run.run_id) == run


def test_the_job_of_ray_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KINDLING_JOB_ID", raising=False)
    monkeypatch.setenv(
        "RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}})
    )
    with recording(layout, "d") as recorder:
        assert recorder.record.job_id == "raysubmit_1"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "no JSON")
    with recording(layout, "d") as recorder:
        assert recorder.record.job_id is None


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ArtefactError("no space"), "failed", "ArtefactError: no space"),
        (SystemExit(1), "failed", "SystemExit: 1"),
        (KeyboardInterrupt(), "stopped", None),
    ],
)
def test_however_it_ends(layout: Layout, error: BaseException, status: str, said: str | None) -> None:
    with pytest.raises(type(error)), recording(layout, "d"):
        raise error
    assert [(run.status, run.error) for run in list_runs(layout)] == [(status, said)]


def test_a_killed_run_is_found_out(layout: Layout) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom pipelines.core.layout import Layout\n"
        "from pipelines.core.runs import recording\n"
        "with recording(Layout(Path(sys.argv[1])), 'd'):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(layout.root)], check=False, timeout=120)
    assert done.returncode < 0
    assert [run.status for run in list_runs(layout)] == ["killed"]


def test_files_that_are_no_runs(layout: Layout) -> None:
    with recording(layout, "d"):
        pass
    (run,) = list_runs(layout)
    write_json(layout.run("r1"), {"stages": []})
    write_json(layout.run("r2"), read_json(layout.run(run.run_id)) | {"schema_version": RUN_SCHEMA + 1})
    layout.run("r3").write_text("{")
    assert list_runs(layout) == [run]
    with pytest.raises(ArtefactError, match="no record of a run"):
        read_run(layout, "r1")
    with pytest.raises(ArtefactError, match="a newer Kindling"):
        read_run(layout, "r2")
    for name in ("r9", "../run", ""):
        with pytest.raises(InputError, match="there are"):
            read_run(layout, name)
    with pytest.raises(InputError, match="there are none"):
        read_run(Layout(layout.root / "empty"), "last")


def test_old_runs_are_forgotten(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.core.runs._MOST_RUNS", 2)
    for name in ("r1", "r2"):
        write_json(layout.run(name), {})
    with recording(layout, "d") as recorder:
        assert {path.stem for path in layout.runs.iterdir()} == {"r2", recorder.record.run_id}


def test_rows_are_counted_from_what_lies_there(layout: Layout) -> None:
    tables = layout.tables / "items"
    for part, n in (("part-000000.parquet", 3), ("part-000001.parquet", 4)):
        write_table(tables / part, pa.table({"item_id": ["a"] * n}))
    write_table(layout.ids("items"), pa.table({"item_id": ["a"] * 7}))
    for start in (0, 4):
        write_rows(layout.text_embeddings("items"), start, np.zeros((4, 2), dtype=np.float32))
    (layout.stage("ingest") / "broken.parquet").write_text("no")
    write_json(layout.ingest_report, {"items": {"kept": 7, "rejected": 2, "identical_duplicates_merged": 1}})
    assert rows_written(layout, "ingest") == {"items_ids.parquet": 7, "tables/items": 7}
    assert rows_written(layout, "embed") == {"items": 8}
    assert rows_read(layout, ()) == {"items": 10}
    assert rows_read(layout, ("embed",)) == {"embed/items": 8}
    assert rows_read(Layout(layout.root / "empty"), ()) == {}


def test_memory_of_a_child_counts() -> None:
    size = 200_000_000
    program = f"import sys; data = bytearray({size}); print(len(data), flush=True); sys.stdin.read()"
    with PeakMemory() as before:
        pass
    with (
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child,
        PeakMemory() as memory,
    ):
        assert child.stdout is not None
        child.stdout.readline()
        memory._look()
        assert child.stdin is not None
        child.stdin.close()
    assert memory.megabytes > before.megabytes + 0.9 * size / 1e6


def test_the_timeline_is_a_picture_of_its_own(layout: Layout) -> None:
    with recording(layout, "d") as recorder:
        recorder.add(stage("ingest", None))
        recorder.add(stage("split", recorder.record.started + 1))
    svg = timeline(recorder.record)
    root = ET.fromstring(svg)  # noqa: S314 - our own
    said = " ".join(element.text or "" for element in root.iter())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "split" in said
    assert "2.5 s, 300 MB" in said
    assert "unchanged" in said
    assert "var(--" not in svg
    assert timeline(recorder.record) == svg
    with recording(layout, "d") as empty:
        ET.fromstring(timeline(empty.record))  # noqa: S314 - our own


def test_the_commands_print_it(layout: Layout, tmp_path: Path) -> None:
    with recording(layout, "d") as recorder:
        recorder.add(stage("split", recorder.record.started + 1))
    run = CliRunner()

    def output(*arguments: str) -> str:
        done = run.invoke(runs_app, [*arguments, "--out", str(layout.root)], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    assert recorder.record.run_id[:10] in output("list")
    assert json.loads(output("list", "--json"))[0]["status"] == "done"
    picture = tmp_path / "run.svg"
    assert "split" in output("show", "--svg", str(picture))
    assert picture.exists()
    assert json.loads(output("show", recorder.record.run_id, "--json"))["stages"][0]["rows_out"] == {
        "pairs": 7
    }


def test_a_line_of_the_log_names_the_run(layout: Layout) -> None:
    with recording(layout, "d") as recorder:
        line = json.loads(log_line("info", "stage begins", stage="embed", where=Path("x")))
    assert line["run_id"] == recorder.record.run_id
    assert (line["event"], line["stage"], line["where"]) == ("stage begins", "embed", "x")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made = logging.LogRecord("a.b", logging.ERROR, "", 0, "failed: %s", ("it",), sys.exc_info())
    formatted = JsonFormatter().format(made)
    assert "\n" not in formatted
    found = json.loads(formatted)
    assert (found["level"], found["logger"], found["message"]) == ("error", "a.b", "failed: it")
    assert "two\nlines" in found["traceback"]
    assert "run_id" not in found
    assert os.linesep not in log_line("info", "a\nb")
