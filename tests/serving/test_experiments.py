"""A/B tests in the service: who sees what, what is written down of it, and what the report makes of it."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from scipy import stats
from sqlalchemy import select, text
from sqlalchemy.engine import URL
from typer.testing import CliRunner, Result

from jobs.experiments_cli import experiments_app
from pipelines.core.bundle import BundlePaths, write_manifest
from pipelines.core.encoder import Encoder
from pipelines.core.errors import InputError
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json
from serving.api import create_app
from serving.experiments.definition import Definition
from serving.experiments.report import make_report
from serving.experiments.versions import OtherVersions
from serving.live import LiveRecommender
from serving.recommender import Recommender
from serving.requests import Request
from serving.store.connecting import connect
from serving.store.exposing import Exposure
from serving.store.schema import exposures
from serving.store.store import Store, StoredEvent
from tests.serving.shop import CONFIG, Shop
from tests.serving.test_api import check_problem
from tests.serving.test_holder import eventually

HOUR = 3600.0
BUYERS = {"name": "buyers", "measure": "users", "event": "purchase"}
SERVE = CONFIG.serve.model_copy(update={"experiment_seconds": 0.05})


def definition(
    name: str = "variety", settings: dict[str, Any] | None = None, **values: object
) -> dict[str, Any]:
    second = {"name": "new", "settings": settings if settings is not None else {"diversity": 0.9}}
    return {"name": name, "variants": [{"name": "control"}, second], "metrics": [BUYERS]} | values


def made(**values: object) -> Definition:
    return Definition.model_validate(definition(**values))


@pytest.fixture
def client(model: Recommender, store: Store) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: model, store, SERVE), raise_server_exceptions=False) as client:
        yield client


def begin(client: TestClient, **values: object) -> None:
    answer = client.post("/v1/experiments", json=definition(**values))
    assert answer.status_code == 200, answer.text
    assert answer.json()["problem"] == ""


def ask(client: TestClient, user: str | None, **body: object) -> dict[str, Any]:
    answer = client.post("/v1/recommend", json={"user_id": user, "n": 20} | body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def exposed(store: Store) -> dict[str, str]:
    with store._engine.connect() as connection:
        rows = connection.execute(select(exposures.c.user_id, exposures.c.variant)).all()
    return {row.user_id: row.variant for row in rows}


def test_each_user_is_answered_by_their_variant_and_written_down_once(
    client: TestClient, store: Store, model: Recommender, shop: Shop
) -> None:
    begin(client)
    users = [user for user, items in shop.history.items() if items][:30]
    answers = {user: ask(client, user) for user in [*users, *users]}
    found = {user: answer["variant"] for user, answer in answers.items()}
    assert set(found.values()) == {"control", "new"}
    assert {answer["experiment"] for answer in answers.values()} == {"variety"}
    for user, answer in answers.items():
        diversity = {"control": None, "new": 0.9}[answer["variant"]]
        expected = model.recommend(Request(user_id=user, n=20, diversity=diversity))
        assert [i["item_id"] for i in answer["items"]] == [i.item_id for i in expected]
    eventually(lambda: exposed(store) == found)
    assert client.get(f"/v1/recommend/{users[0]}").json()["variant"] == found[users[0]]
    # the same on any replica, by the store alone
    (experiment,) = store.experiments.running()
    for user, variant in found.items():
        own = experiment.variant_of(user)
        assert own is not None
        assert own.name == variant


def test_gamma_is_exactly_another_weight_of_text(client: TestClient, shop: Shop, encoder: Encoder) -> None:
    begin(client, settings={"gamma": 0.7})
    users = [user for user, items in shop.history.items() if items][:10]
    answers = [
        answer for answer in (ask(client, u, explain=True) for u in users) if answer["variant"] == "new"
    ]
    assert answers
    other = Recommender(shop.bundle, encoder)
    factors, profiles = other.catalogue.bundle.factors, other.catalogue.bundle.profiles
    for answer in answers:
        for item in answer["items"]:
            assert sum(item["parts"].values()) == pytest.approx(item["score"], rel=1e-3, abs=1e-4)
    user = next(u for u in users if ask(client, u)["variant"] == "new")
    (understood,) = [
        other._prepare(0, Request(user_id=user), words)
        for words in other.users.words([Request(user_id=user)])
    ]
    assert understood.parts is not None
    profile, folded = understood.parts
    scores = factors @ folded.total + 0.7 * (profiles @ profile.total)
    scores[[*other.catalogue.hidden, *understood.known.touched]] = -np.inf
    best = np.argsort(-scores, kind="stable")[:20]
    assert [i["item_id"] for i in ask(client, user)["items"]] == [shop.item_ids[row] for row in best]


def test_who_an_experiment_does_not_touch_is_not_in_it(client: TestClient, store: Store) -> None:
    begin(client)
    for answer in (
        ask(client, None),
        ask(client, "anna", diversity=0.0),  # says it itself, whichever variant they have
        client.post("/v1/rank", json={"user_id": "anna", "item_ids": ["item-000001"]}).json(),
    ):
        assert "experiment" not in answer
        assert "variant" not in answer
    assert client.post("/v1/recommend", json={"user_id": "anna", "n": 9999}).status_code == 422
    ask(client, "ben")
    eventually(lambda: exposed(store).keys() == {"ben"})


def test_an_experiment_ends_and_grows_within_seconds(client: TestClient, store: Store) -> None:
    begin(client, traffic=0.3)
    users = [f"user {n}" for n in range(60)]
    first = {user: ask(client, user).get("variant") for user in users}
    assert 5 <= sum(variant is not None for variant in first.values()) <= 35
    # by another process, of which this replica is told nothing
    store.experiments.set_traffic("variety", 0.8)
    eventually(lambda: sum(ask(client, user).get("variant") is not None for user in users) > 35)
    second = {user: ask(client, user).get("variant") for user in users}
    assert all(second[user] == variant for user, variant in first.items() if variant is not None)
    store.experiments.stop("variety", "new")
    eventually(lambda: all("variant" not in ask(client, user) for user in users))
    (found,) = client.get("/v1/experiments").json()["experiments"]
    assert (found["winner"], found["traffic"]) == ("new", 0.8)
    assert found["stopped_at"] > found["started_at"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"traffic": 1e-9}, "traffic"),
        (
            {"variants": [{"name": "control", "share": 1000}, {"name": "new", "share": 0.001}]},
            "no user is left",
        ),
    ],
)
def test_an_experiment_without_users_does_not_begin(
    client: TestClient, store: Store, wrong: dict[str, Any], field: str
) -> None:
    answer = client.post("/v1/experiments", json=definition() | wrong)
    assert answer.status_code == 422
    assert field in answer.text
    assert store.experiments.all() == []


def test_experiments_share_the_users_and_no_more(client: TestClient, store: Store) -> None:
    begin(client, traffic=0.5)
    begin(client, name="other", traffic=0.4)
    refused = client.post("/v1/experiments", json=definition("third", traffic=0.2))
    check_problem(refused, 422, "traffic is 0.2", "0.1 of all users", "other, variety")
    refused = client.put("/v1/experiments/other/traffic", json={"traffic": 0.6})
    check_problem(refused, 422, "traffic is 0.6", "0.5 of all users")
    check_problem(client.post("/v1/experiments", json=definition()), 422, "there is an experiment 'variety'")
    assert client.put("/v1/experiments/other/traffic", json={"traffic": 0.5}).json()["traffic"] == 0.5
    found = [ask(client, f"user {n}")["experiment"] for n in range(40)]
    assert set(found) == {"variety", "other"}


def test_of_many_that_begin_at_once_as_many_do_as_there_is_room_for(store: Store, url: URL) -> None:
    def start(n: int) -> bool:
        try:
            Store(url).experiments.start(made(name=f"e{n}", traffic=0.3))
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(start, range(6))) == 3
    slots = [
        slot for e in store.experiments.running() for first, end in e.slots for slot in range(first, end)
    ]
    assert len(slots) == len(set(slots)) == 9000


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "../x"}, ["name"]),
        ({"traffic": 0}, ["traffic"]),
        ({"variants": [{"name": "control"}]}, ["variants"]),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, ["named twice"]),
        ({"variants": [{"name": "a", "settings": {"diversity": 1}}, {"name": "b"}]}, ["first variant"]),
        ({"settings": {"diversity": 2}}, ["diversity"]),
        ({"settings": {"colour": "red"}}, ["colour"]),
        ({"settings": {"version": "../../etc"}}, ["version"]),
        ({"settings": {"version": "v9"}}, ["'v9'", "no other versions"]),
        ({"metrics": [BUYERS | {"event": "stare"}]}, ["'stare'", "purchase"]),
        ({"metrics": [BUYERS | {"per": "view"}]}, ["ratio"]),
        ({"metrics": [{"name": "rate", "measure": "ratio", "event": "purchase"}]}, ["ratio"]),
        ({"metrics": []}, ["metrics"]),
    ],
)
def test_a_definition_that_cannot_be_is_refused(
    client: TestClient, values: dict[str, Any], words: list[str]
) -> None:
    check_problem(client.post("/v1/experiments", json=definition(**values)), 422, *words)
    assert client.get("/v1/experiments").json() == {"experiments": []}


def test_what_is_not_there_cannot_be_stopped(client: TestClient) -> None:
    for answer in (
        client.post("/v1/experiments/none/stop", json={}),
        client.get("/v1/experiments/none"),
        client.put("/v1/experiments/none/traffic", json={"traffic": 0.5}),
    ):
        check_problem(answer, 404, "no experiment 'none'")
    begin(client)
    check_problem(client.post("/v1/experiments/variety/stop", json={"winner": "x"}), 422, "control, new")
    assert client.post("/v1/experiments/variety/stop", json={}).json()["winner"] is None
    assert client.post("/v1/experiments/variety/stop", json={"winner": "new"}).json()["winner"] == "new"
    check_problem(client.post("/v1/experiments/variety/stop", json={"winner": "control"}), 422, "'new'")
    check_problem(client.put("/v1/experiments/variety/traffic", json={"traffic": 1}), 422, "been stopped")


def seen(user: str, variant: str, at: float, experiment: str = "variety") -> Exposure:
    return Exposure(experiment, user, variant, at)


def test_the_first_exposure_stays(store: Store) -> None:
    store.experiments.expose([seen("anna", "new", 10.0), seen("ben", "control", 11.0)])
    store.experiments.expose([seen("anna", "control", 5.0), seen("cleo", "new", 12.0)])
    assert exposed(store) == {"anna": "new", "ben": "control", "cleo": "new"}
    with ThreadPoolExecutor(4) as pool:  # in any order, at once
        batches = [[seen(f"u{n}", "new", 1.0) for n in range(200)][:: (-1) ** k] for k in range(8)]
        list(pool.map(store.experiments.expose, batches))
    assert len(exposed(store)) == 203


def test_the_forgotten_are_gone_and_the_merged_have_what_came_first(store: Store) -> None:
    store.experiments.expose([seen("anna", "new", 20.0), seen("visitor", "control", 10.0)])
    store.experiments.expose([seen("visitor", "new", 30.0, "other"), seen("ben", "new", 1.0)])
    store.merge("anna", "visitor")
    with store._engine.connect() as connection:
        rows = connection.execute(select(exposures).order_by("user_id", "experiment")).all()
    assert [tuple(row) for row in rows] == [
        ("other", "anna", "new", 30.0, True),
        ("variety", "anna", "control", 10.0, True),
        ("variety", "ben", "new", 1.0, False),
    ]
    store.merge("ben", "anna")
    assert exposed(store) == {"ben": "new"}
    store.forget("ben")
    assert exposed(store) == {}


def test_a_report_is_what_a_slow_obvious_one_says(store: Store) -> None:
    """Users, events and times at random, counted here one by one."""
    rng = np.random.default_rng(0)
    metrics = [
        {"name": "buyers", "measure": "users", "event": "purchase", "within_hours": 2},
        {"name": "clicks", "event": "click", "within_hours": 2},
        {"name": "all", "measure": "weight", "within_hours": 5},
        {"name": "rate", "measure": "ratio", "event": "purchase", "per": "click", "within_hours": 2},
    ]
    store.experiments.start(made(metrics=metrics))
    now = time.time()
    users = {
        f"u{n}": (str(rng.choice(["control", "new"])), now - rng.uniform(0, 8) * HOUR) for n in range(300)
    }
    store.experiments.expose([seen(user, variant, at) for user, (variant, at) in users.items()])
    done = [
        StoredEvent(
            f"e{n}", f"u{rng.integers(320)}", "item", str(rng.choice(["click", "purchase", "view"])) if n % 9 else None,
            float(rng.uniform(0.5, 2)), now - rng.uniform(0, 9) * HOUR if n % 7 else None,
        )
        for n in range(2500)
    ]  # fmt: skip
    store.add(done)
    report = make_report(store.experiments, "variety")
    assert sum(u.users for u in report.users) == 300
    counts = [u.users for u in report.users]
    assert report.sample_ratio_p == pytest.approx(stats.chisquare(counts).pvalue)
    for metric, found in zip(metrics, report.metrics, strict=True):
        seconds = float(str(metric["within_hours"])) * HOUR
        values: dict[str, list[tuple[float, float]]] = {"control": [], "new": []}
        for user, (variant, at) in users.items():
            if at > report.until - seconds:
                continue
            own = [e for e in done if e.user_id == user and at <= (e.occurred_at or now) < at + seconds]
            counted = [e for e in own if metric.get("event") in (None, e.event)]
            clicks = sum(e.event == "click" for e in own)
            x = {
                "users": float(bool(counted)), "events": len(counted), "ratio": len(counted),
                "weight": sum(e.weight for e in counted),
            }[str(metric.get("measure", "events"))]  # fmt: skip
            values[variant].append((x, clicks if metric["name"] == "rate" else 1.0))
        a, b = (np.array(values[v]) for v in ("control", "new"))
        assert [f.users for f in found.figures] == [len(a), len(b)]
        expected = [drawn[:, 0].sum() / drawn[:, 1].sum() for drawn in (a, b)]
        assert [f.value for f in found.figures] == pytest.approx(expected)
        if metric["name"] != "rate":
            welch = stats.ttest_ind(b[:, 0], a[:, 0], equal_var=False)
            assert found.differences[0].p_value == pytest.approx(welch.pvalue)


def fill(store: Store, buyers: dict[str, tuple[int, int]]) -> None:
    """So many users of each variant, and so many of them who bought."""
    past = time.time() - 30 * HOUR
    for variant, (users, buying) in buyers.items():
        names = [f"{variant} {n}" for n in range(users)]
        store.experiments.expose([seen(name, variant, past) for name in names])
        store.add([StoredEvent(name, name, "item", "purchase", 1.0, past + 60) for name in names[:buying]])


def test_verdicts(store: Store) -> None:
    experiments = store.experiments
    experiments.start(made())
    assert make_report(experiments, "variety").verdicts == {"new": "undecided"}
    fill(store, {"control": (500, 50), "new": (520, 110)})
    report = make_report(experiments, "variety")
    assert report.verdicts == {"new": "better"}
    (difference,) = report.metrics[0].differences
    assert difference.always_interval is not None
    assert difference.always_interval[0] < difference.interval[0] < 110 / 520 - 0.1 < difference.interval[1]
    assert difference.lift == pytest.approx(110 / 52 - 1)
    store.experiments.expose([seen(f"more {n}", "new", 0.0) for n in range(150)])
    report = make_report(experiments, "variety")
    assert report.sample_ratio_p < 0.001
    assert report.verdicts == {"new": "mismatch"}


def copy_version(out: Path, version: str) -> BundlePaths:
    layout = Layout(out)
    paths = BundlePaths(layout.bundle(version))
    shutil.copytree(layout.bundle("v1"), paths.root)
    write_manifest(paths, version, {"encoder": read_json(paths.manifest)["encoder"]})
    return paths


def test_another_version_answers_beside_the_one_in_service(
    model: Recommender, store: Store, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = copy_version(out, "v2")
    store.items.put("new-tent", {"title": "A tent for two"})

    def live(version: Recommender) -> LiveRecommender:
        return LiveRecommender(lambda: version, store, 1e6, 500)

    others = OtherVersions(out, lambda: model, live)
    app = create_app(lambda: model, store, SERVE, others=others)
    with TestClient(app, raise_server_exceptions=False) as client:
        refused = client.post("/v1/experiments", json=definition(settings={"version": "v3"}))
        check_problem(refused, 422, "'v3' cannot be tried", "v1, v2")
        began = client.post("/v1/experiments", json=definition(settings={"version": "v2"}))
        assert "being loaded" in began.json()["problem"]
        users = [f"user {n}" for n in range(20)]
        eventually(lambda: "variant" in ask(client, users[0]))
        answers = [ask(client, user) for user in users]
        assert {(a["variant"], a["model_version"]) for a in answers} == {("control", "v1"), ("new", "v2")}
        second = others("v2")
        assert second is not None
        assert second.encoder is model.encoder
        assert "new-tent" in second.catalogue, "what has come since is there in every version"
        # what is in memory answers on; a replica that starts without it leaves the experiment alone, for everybody
        whole = paths.item_arrays.read_bytes()
        paths.item_arrays.write_bytes(whole[:-10])
        restarted = create_app(lambda: model, store, SERVE, others=OtherVersions(out, lambda: model, live))
        with TestClient(restarted) as late, caplog.at_level(logging.ERROR):
            eventually(lambda: bool(ask(late, "anna")) and "version v2 is refused" in caplog.text)
            assert {ask(late, user)["model_version"] for user in users} == {"v1"}
            assert not any("variant" in ask(late, user) for user in users)
            (listed,) = late.get("/v1/experiments").json()["experiments"]
            assert "not" in listed["problem"]
        store.experiments.stop("variety")
        eventually(lambda: "variant" not in ask(client, "anna") and others("v2") is None)


def test_without_the_tables_everybody_has_the_control(
    model: Recommender, store: Store, url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    with TestClient(create_app(lambda: model, store, SERVE), raise_server_exceptions=False) as client:
        begin(client)
        assert ask(client, "secret-person")["experiment"] == "variety"
        eventually(lambda: exposed(store).keys() == {"secret-person"})
        with connect(url).begin() as connection:
            connection.execute(text("ALTER TABLE exposures RENAME TO hidden"))
        assert ask(client, "secret-other")["experiment"] == "variety"  # the answer does not wait for it
        eventually(lambda: "not written down" in caplog.text)
        with connect(url).begin() as connection:
            connection.execute(text("ALTER TABLE hidden RENAME TO exposures"))
        assert ask(client, "secret-other")["experiment"] == "variety"
        eventually(lambda: exposed(store).keys() == {"secret-person", "secret-other"})
        with connect(url).begin() as connection:
            connection.execute(text("ALTER TABLE experiments RENAME TO hidden"))
        eventually(lambda: ask(client, "anna") is not None and "cannot be read" in caplog.text)
        check_problem(client.get("/v1/experiments"), 503, "try again shortly")
    with TestClient(create_app(lambda: model, store, SERVE)) as late:
        assert "experiment" not in ask(late, "anna")
    assert "secret" not in caplog.text


def test_only_an_admin_runs_experiments(model: Recommender, store: Store) -> None:
    keyed = SERVE.model_copy(update={"auth": "keys"})
    with TestClient(create_app(lambda: model, store, keyed)) as client:
        for scope, status in (("read", 403), ("write", 403), ("admin", 200)):
            headers = {"Authorization": f"Bearer {store.keys.add(scope, [scope])}"}
            assert client.get("/v1/experiments", headers=headers).status_code == status
            begun = client.post("/v1/experiments", json=definition(), headers=headers)
            assert begun.status_code == status
        check_problem(client.get("/v1/experiments/variety"), 401)


def test_the_command_line(out: Path, tmp_path: Path) -> None:
    toml = tmp_path / "variety.toml"
    toml.write_text(
        'name = "variety"\n[[variants]]\nname = "control"\n[[variants]]\nname = "new"\nsettings = {diversity = 0.3}\n'
        '[[metrics]]\nname = "buyers"\nmeasure = "users"\nevent = "purchase"\n'
    )
    place = ("--out", str(out))

    def run(*words: str) -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(experiments_app, words)

    for words, expected in (
        (("start", str(toml), *place), "variety"),
        (("traffic", "variety", "0.5", *place), "50.00%"),
        (("list", *place), "control, new"),
        (("report", "variety", *place), "buyers (decides)"),
        (("report", "variety", "--json", *place), '"sample_ratio_p": 1.0'),
        (("stop", "variety", "--winner", "new", *place), "serve.diversity = 0.3"),
        # 32 p (1 - p) / effect^2 in all, by Lehr, who rounds 15.7 to 16
        (("plan", "--mean", "0.05", "--lift", "0.1"), "one look at the end: 59652 users"),
        (("plan", "--mean", "0.05", "--users", "59652"), "one look at the end: 59652 users find +10.0%"),
    ):
        result = run(*words)
        assert result.exit_code == 0, result.exception
        assert expected in result.output
    toml.write_text(toml.read_text().replace("purchase", "stare"))
    for words, expected in (
        (("start", str(toml), *place), "'stare' is no event"),
        (("start", str(tmp_path / "none.toml"), *place), "cannot read the experiment"),
        (("plan", "--mean", "5"), "--deviation"),
    ):
        error = run(*words).exception
        assert isinstance(error, InputError)
        assert expected in str(error)
