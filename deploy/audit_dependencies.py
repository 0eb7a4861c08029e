"""Looks up the exact versions of constraints.txt in the database of known advisories, by pip-audit (`make audit`).

Exits with 1 if there is an advisory. Where the database cannot be reached it says so and exits with 0; pip-audit by
itself calls that "no known vulnerabilities" where every look-up was answered by 404.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

VERSIONS = Path(__file__).resolve().parent.parent / "constraints.txt"
WITHIN = 600.0
"""Seconds that the audit may take."""


def main() -> int:
    """Audit, and print what was found."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(VERSIONS), "--no-deps", "--disable-pip",
        "--format", "json", "--progress-spinner", "off", *sys.argv[1:],
    ]  # fmt: skip
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
    except subprocess.TimeoutExpired:
        return _skipped(f"no answer within {WITHIN:g} s")
    try:
        dependencies = json.loads(ran.stdout)["dependencies"]
    except (ValueError, LookupError, TypeError):
        return _skipped((ran.stderr.strip() or "pip-audit gave no report").splitlines()[-1])
    return _told(dependencies)


def _told(dependencies: list[dict[str, Any]]) -> int:
    known = [one for one in dependencies if "skip_reason" not in one]
    unknown = [one for one in dependencies if "skip_reason" in one]
    if not known:
        return _skipped(unknown[0]["skip_reason"] if unknown else "pip-audit looked at nothing")
    bad = [(one, advisory) for one in known for advisory in one["vulns"]]
    for one, advisory in bad:
        fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
        _say(f"{one['name']} {one['version']}: {advisory['id']}; fixed in {fixed}")
    if unknown:
        _say(f"not in the database: {', '.join(one['name'] for one in unknown)}")
    if not bad:
        _say(f"no known advisory for {len(known)} package{'s' if len(known) > 1 else ''}")
    return 1 if bad else 0


def _skipped(why: str) -> int:
    _say(f"skipped: the database of advisories cannot be reached from here ({why})")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    raise SystemExit(main())
