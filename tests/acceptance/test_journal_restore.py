"""The commands of docs/standby.md for backup and restore do what it says, with a real hub and a real PostgreSQL."""

import asyncio
import re
import shlex
from pathlib import Path

from tests.support.postgres import PROGRAMS
from tests.support.programs.cluster_scene import SUBMIT, Cluster, has_jobs

PAGE = Path(__file__).parents[2] / "docs" / "standby.md"


async def follow(command: str, cluster: Cluster) -> None:
    """Do what a line of the page says, with the database and the folder of this test."""
    (line,) = re.findall(rf"^    ({command} .+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    line = line.replace("postgresql://wakestream@db.example/wakestream", cluster.address)
    program, *words = shlex.split(line.replace("/var/lib/wakestream/hub/", f"{cluster.folder}/a/"))
    found = PROGRAMS[-1] / program if program != "rm" else program
    process = await asyncio.create_subprocess_exec(found, *words, cwd=cluster.folder)
    assert await process.wait() == 0, line


async def test_a_hub_goes_on_from_a_backup_that_was_made_while_it_ran(cluster: Cluster, tmp_path: Path) -> None:
    hub, url = await cluster.start("a")
    client = await cluster.peer(url, "client")
    for n in range(3):
        await client.ask(**SUBMIT, request_id=f"job-{n}")
    await follow("pg_dump", cluster)
    await client.ask(**SUBMIT, request_id="after-the-backup")
    hub.process.terminate()
    await hub.process.wait()
    await follow("psql", cluster)
    await follow("pg_restore", cluster)
    flags = ("--listen", "127.0.0.1:0", "--state", str(tmp_path / "a"), "--journal", cluster.address)
    refused = await cluster.user.run("hub", *flags)
    assert re.search(r"it ends with fact \d+, but \d+ facts were written", refused.err)
    await follow("rm", cluster)
    _, url = await cluster.start("a")
    await has_jobs(cluster, url, 3)
