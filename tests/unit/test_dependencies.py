"""The packages in use are those that were looked at: pins, advisories.toml and pyproject.toml are in step."""

from __future__ import annotations

import re
import tomllib

from packaging.version import Version

from tests.audit import ROOT, findings, knows_the_bad, normal, pins, reviewed

AGAIN = "look at its advisories again (`make audit`), then change advisories.toml"


def test_what_is_depended_on_is_pinned_and_was_looked_at_in_that_version() -> None:
    with (ROOT / "pyproject.toml").open("rb") as handle:
        project = tomllib.load(handle)["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["s3"], *extras["traces"]]
    names = {normal(re.split(r"[^\w.-]", requirement)[0]) for requirement in wanted}
    pinned, seen = pins(), reviewed()["reviewed"]
    assert names == set(seen)
    assert {name: pinned.get(name) for name in names} == seen, AGAIN


def test_no_pin_is_older_than_what_fixed_a_known_advisory() -> None:
    pinned, fixed = pins(), reviewed()["fixed"]
    old = {
        (name, advisory): pinned[name]
        for name, advisories in fixed.items()
        for advisory, version in advisories.items()
        if Version(pinned[name]) < Version(version)
    }
    assert not old


def test_what_is_accepted_is_accepted_for_the_version_in_use_and_says_why() -> None:
    for entry in reviewed()["accepted"]:
        assert pins()[normal(entry["package"])] == entry["version"], AGAIN
        assert len(entry["why"]) > 40


def test_an_audit_tells_findings_from_what_is_accepted_and_from_no_database() -> None:
    found = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}
    answer = [{"name": "Ray", "version": "1", "vulns": [found]}, {"name": "x", "skip_reason": "not found"}]
    accepted = {"package": "ray", "version": "1", "id": "CVE-1", "why": ""}
    assert findings(answer, []) == ["Ray 1: CVE-1, PYSEC-1; fixed in 2"]
    assert findings(answer, [accepted]) == []
    assert findings(answer, [accepted | {"version": "0"}]) != []
    assert knows_the_bad(answer)
    assert not knows_the_bad(answer[1:])  # a mirror of packages without a database
    assert not knows_the_bad(None)
