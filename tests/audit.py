"""What is known of the packages in constraints.txt: `python -m tests.audit` asks the databases of advisories.

A database counts as reached only if it names what is wrong with a version that everybody knows to be wrong: a mirror
without one answers that nothing is known of anything. Exit status 1: there are advisories that advisories.toml does not
accept. 0: there are none, or no database was reached; which of the two is said.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DATABASES = ("pypi", "osv")
_KNOWN_BAD = ("requests", "2.19.0")
"""CVE-2018-18074."""
_SECONDS = 10


def normal(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    """Package to version, of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version.strip() for name, version in pairs}


def reviewed() -> dict[str, Any]:
    """advisories.toml."""
    with (ROOT / "advisories.toml").open("rb") as handle:
        return tomllib.load(handle)


def ask(database: str, versions: dict[str, str]) -> list[dict[str, Any]] | None:
    """What a database says of each package, see pip-audit's JSON; None: it did not answer."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(f"{name}=={version}\n" for name, version in versions.items())
        file.flush()
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--requirement",
            file.name,
            "--no-deps",
            "--disable-pip",
        ]
        options = ["--vulnerability-service", database, "--timeout", str(_SECONDS), "--format", "json"]
        options += ["--progress-spinner", "off"]
        found = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    try:
        return list(json.loads(found.stdout)["dependencies"])
    except (ValueError, KeyError):
        return None


def knows_the_bad(answer: list[dict[str, Any]] | None) -> bool:
    """Whether an answer to the version that is known to be bad shows that there is a database behind it."""
    return any(dependency.get("vulns") for dependency in answer or [])


def findings(answer: list[dict[str, Any]], accepted: list[dict[str, str]]) -> list[str]:
    """What is to be done something about, a line each."""
    fine = {(normal(entry["package"]), entry["version"], entry["id"]) for entry in accepted}
    lines = []
    for dependency in answer:
        for found in dependency.get("vulns", ()):
            name, version, ids = dependency["name"], dependency["version"], {found["id"], *found["aliases"]}
            if not any((normal(name), version, i) in fine for i in ids):
                fixed = ", ".join(found["fix_versions"]) or "no version"
                lines.append(f"{name} {version}: {', '.join(sorted(ids))}; fixed in {fixed}")
    return lines


def main() -> int:
    """Ask the first database that is there."""
    versions, known = pins(), reviewed()
    for database in DATABASES:
        if not knows_the_bad(ask(database, dict([_KNOWN_BAD]))):
            continue
        answer = ask(database, versions)
        if answer is None:
            continue
        wrong = findings(answer, known["accepted"])
        skipped = [d["name"] for d in answer if "skip_reason" in d]
        print(f"audited: {len(answer) - len(skipped)} packages, database {database}", *wrong, sep="\n")
        print(f"not in the database: {', '.join(skipped)}" if skipped else "all of constraints.txt")
        return 1 if wrong else 0
    print(
        f"NOT audited: no database of advisories was reached ({', '.join(DATABASES)}). What is known is "
        f"advisories.toml of {known['reviewed_on']}; run `make audit` where pypi.org or api.osv.dev can be reached."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
