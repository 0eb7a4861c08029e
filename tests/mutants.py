"""How many small changes of a room its own tests find: `make mutants ROOM=streams/hub SAMPLE=60`.

The changes are cosmic-ray's, without those of operators that stand in types only. The sample is the same each time, as
long as the room is. They are tried in a copy of the last commit, one at a time.
"""

import random
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPY = ROOT / "build" / "mutants"
OTHER_SIGN = re.compile(r"ReplaceBinaryOperator_(?!Add_Sub|Sub_Add|Mul_Div|Div_Mul)")


def main(room: str, sample: int) -> None:
    """Try a sample of the changes of a room."""
    shutil.rmtree(COPY, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, COPY], check=True)  # noqa: S607 - as in Makefile
    modules = [str(path.relative_to(COPY)) for path in sorted((COPY / room).rglob("*.py")) if path.stat().st_size]
    python = ROOT / ".venv" / "bin" / "python"
    (COPY / "mutants.toml").write_text(
        f"[cosmic-ray]\nmodule-path = {modules}\ntimeout = 120.0\nexcluded-modules = []\n"
        f'test-command = "{python} -m pytest -q -x -p no:cacheprovider tests/{room}"\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    cosmic_ray("init")
    with sqlite3.connect(COPY / "mutants.sqlite") as session:
        rows = session.execute(
            "select job_id, operator_name, module_path, start_pos_row, start_pos_col, occurrence from mutation_specs"
        )
        found = sorted(row[2:] + row[:2] for row in rows if not OTHER_SIGN.search(row[1]))
        kept = random.Random(22).sample(found, min(sample, len(found)))
        for table in ("mutation_specs", "work_items"):
            session.execute(f"delete from {table} where job_id not in ({', '.join(repr(row[4]) for row in kept)})")  # noqa: S608
    session.close()
    cosmic_ray("exec")
    with sqlite3.connect(COPY / "mutants.sqlite") as session:
        survived = {
            job for (job,) in session.execute("select job_id from work_results where test_outcome = 'SURVIVED'")
        }
    session.close()
    for module, line, *_, job, operator in sorted(kept):
        if job in survived:
            sys.stdout.write(f"{module}:{line}: {operator}\n")
    found_of = f"{len(kept) - len(survived)} of {len(kept)}"
    sys.stdout.write(f"{room}: the tests find {found_of} changes, a sample of {len(found)}\n")


def cosmic_ray(command: str) -> None:
    """Run it in the copy."""
    program = ROOT / ".venv" / "mutants" / "bin" / "cosmic-ray"
    subprocess.run(
        [program, command, "mutants.toml", "mutants.sqlite"], cwd=COPY, check=True, stdout=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
