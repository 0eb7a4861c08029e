"""docs/tutorial.md is true: its commands, one after the other from a clone on, with the output that it shows."""

import os
from pathlib import Path

import pytest

from tests.support.programs.page_reader import blocks, reader_of_a_clone


@pytest.mark.skipif(os.name != "posix", reason="the page is written for a POSIX shell")
@pytest.mark.timeout(240)
def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    with reader_of_a_clone(tmp_path) as reader:
        for block in blocks("tutorial.md"):
            reader.follow(block)
    assert (reader.folder / "catalogue.txt").read_text().count("\n") == 1
    for name in ("talking", "again", "other", "third", "mine"):
        assert (reader.folder / f"{name}.mp4").stat().st_size > 0
