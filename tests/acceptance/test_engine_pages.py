"""The first jobs of docs/engines are true: their commands in order, with the output that the pages show."""

import os
from pathlib import Path

import pytest

from tests.support.engines.real_servers import needs, python_of
from tests.support.programs.page_reader import blocks, reader_of_a_clone


@pytest.mark.skipif(os.name != "posix", reason="the pages are written for a POSIX shell")
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "page", ["command", "ffmpeg", *(pytest.param(engine, marks=needs(engine)) for engine in ("cog", "gradio"))]
)
def test_the_first_job_of_an_engine_works_as_its_page_says(tmp_path: Path, page: str) -> None:
    tutorial = blocks("tutorial.md")
    hub = next(number for number, block in enumerate(tutorial) if block.name == "hub")
    with reader_of_a_clone(tmp_path) as reader:
        for block in (*tutorial[: hub + 2], *blocks(f"engines/{page}.md")):
            reader.follow(block)
            if block.name == "hub" and python_of(page).exists():  # the reader has installed the engine
                (reader.folder / page).symlink_to(python_of(page).parents[1])
