"""The determinism gate, `python tests/determinism.py`: every log, 8 hash seeds, two versions of Python, one outcome.

Besides the Python that runs this, one of another version is looked for: those that PYTHONS names, else python3.13 and
its like on PATH, else /usr/bin/python3. It gets an environment of its own under .venv/others/ with the pinned runtime
requirements. Each pair of Python and seed is one process, which runs all logs again and prints a hash of each outcome.

Ends with 1 when two of them differ, or when there is one version only and REQUIRE_TWO_PYTHONS=1.
"""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOGS = ROOT / "tests" / "logs"
OTHERS = ROOT / ".venv" / "others"
SEEDS = ("0", "1", "2", "3", "42", "4242", "65536", "4294967295")
OLDEST, NEWEST = (3, 11), (3, 15)
WITHIN = 120.0
"""Seconds that one process may take for all logs."""

Outcomes = dict[str, str]
"""For each log, the hash of all that the program did on it."""

OWN_PIPELINES = "examples"
"""The folder of logs that only the pipelines of the examples can run again; their own tests do."""


def outcomes() -> Outcomes:
    """Runs every log again in this process."""
    from wakestream.adapters.testing.virtual_loop import run_virtual
    from wakestream.streams.recording.recording import read_log, row_line
    from wakestream.streams.replay.replay import replay

    found = {}
    for path in sorted(path for path in LOGS.rglob("*.jsonl*") if path.parent.name != OWN_PIPELINES):
        data = path.read_bytes()
        lines = (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines(keepends=True)
        again = run_virtual(replay(read_log(lines))).again
        found[path.relative_to(LOGS).as_posix()] = hashlib.sha256(b"".join(map(row_line, again.rows))).hexdigest()
    return found


def outcomes_under(python: str, seed: str) -> Outcomes:
    """Runs every log again in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    command = (python, "-W", "error", str(Path(__file__)), "--outcomes")  # what the next Python will do otherwise
    ran = subprocess.run(command, env=environment, capture_output=True, timeout=WITHIN, check=False)
    if ran.returncode:
        raise SystemExit(f"{python} with hash seed {seed} failed:\n{ran.stderr.decode(errors='replace')}")
    return Outcomes(json.loads(ran.stdout))


def differences(runs: Sequence[tuple[str, Outcomes]]) -> list[str]:
    """What differs from the first run, a line each; `runs` are named."""
    (first, expected), *others = runs
    return [
        f"{log}: {name} came out otherwise than {first}"
        for name, found in others
        for log in sorted(expected.keys() | found.keys())
        if expected.get(log) != found.get(log)
    ]


def version_of(python: str) -> tuple[int, int] | None:
    """The version of an interpreter, or None if it does not run."""
    try:
        ran = subprocess.run(
            (python, "-c", "import sys; print(*sys.version_info[:2])"), capture_output=True, timeout=20, check=True
        )
        major, minor = map(int, ran.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return major, minor


def candidates() -> Iterator[str]:
    """Interpreters that may be there, the best first."""
    asked = os.environ.get("PYTHONS", "").split()
    if asked:
        yield from asked
        return
    minors = (13, *(minor for minor in range(NEWEST[1], OLDEST[1] - 1, -1) if minor != 13))
    for name in (*(f"python3.{minor}" for minor in minors), "python3"):
        yield from filter(None, (shutil.which(name), shutil.which(name, path="/usr/bin:/usr/local/bin")))


def other_pythons() -> list[tuple[str, tuple[int, int]]]:
    """Of each version but ours that is new enough, one interpreter: all that PYTHONS names, or else the first found."""
    found: dict[tuple[int, int], str] = {}
    for python in candidates():
        version = version_of(python)
        if version is not None and OLDEST <= version != sys.version_info[:2]:
            found.setdefault(version, python)
            if not os.environ.get("PYTHONS"):
                break
    return [(python, version) for version, python in found.items()]


def environment_for(python: str, version: tuple[int, int]) -> str:
    """An environment of that Python with the pinned runtime requirements; returns its interpreter."""
    place = OTHERS / f"{version[0]}.{version[1]}"
    inside = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = place / "installed"
    wanted = "\n".join([*requirements(), (ROOT / "constraints.txt").read_text(encoding="utf-8")])
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        # Without pip of its own, which some systems do not give it: ours installs into it.
        subprocess.run((python, "-m", "venv", "--clear", "--without-pip", str(place)), check=True)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--cache-dir", str(ROOT / ".venv" / "cache"))
        install = ("--python", str(inside), "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"))
        subprocess.run((*pip, *install, *requirements()), check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return str(inside)


def requirements() -> list[str]:
    """What wakestream needs at run time."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["dependencies"])


def main() -> int:
    """Run the gate; says what it compared."""
    others = other_pythons()
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    pythons = [(ours, sys.executable)]
    for python, version in list(others):
        try:
            pythons.append((".".join(map(str, version)), environment_for(python, version)))
        except subprocess.CalledProcessError as error:
            others.remove((python, version))
            say(f"{python} is left out, its environment cannot be made: {error}")
    pairs = [(f"Python {version} with hash seed {seed}", python, seed) for version, python in pythons for seed in SEEDS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda pair: outcomes_under(*pair[1:]), pairs))
    wrong = differences([(name, outcome) for (name, _, _), outcome in zip(pairs, found, strict=True)])
    versions = ", ".join(version for version, _ in pythons)
    say(
        f"{len(found[0])} logs, {len(SEEDS)} hash seeds, Python {versions}: {len(pairs)} runs, {len(wrong)} differences"
    )
    for line in wrong:
        say(line)
    if not others:
        say(f"only Python {ours} is here, so nothing is known of others: install a second one, or name it in PYTHONS")
    alone = not others and os.environ.get("REQUIRE_TWO_PYTHONS") == "1"
    return 1 if wrong or alone or not found[0] else 0


def say(line: str) -> None:
    """One line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:] == ["--outcomes"]:
        say(json.dumps(outcomes()))
    else:
        sys.exit(main())
