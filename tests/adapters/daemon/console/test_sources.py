"""Paths and URLs that are not valid."""

from __future__ import annotations

import pytest

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console.copies import SOURCE_MOST, find_source, open_source

LONG = "https://example.org/" + "a" * SOURCE_MOST


@pytest.mark.parametrize("look", [find_source, open_source])
@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("http://[", "source_url"),
        ("http://[::1/a.mp4", "source_url"),
        ("file://[a/b.mp4", "source_url"),
        ("file:///tmp/a%00.mp4", "source_url"),
        (LONG, "source_source"),
        ("https://example.org/a\u202e.mp4", "source_source"),
        ('""', "source_source"),
        (" ", "source_source"),
        ('"' * SOURCE_MOST + "/a.mp4", "source_source"),
    ],
)
async def test_what_is_no_path_and_no_url_is_refused(look: type[find_source], source: str, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        await look(source)
    assert (refused.value.status, refused.value.code) == (400, code)


async def test_a_url_may_have_quotes_around_it() -> None:
    assert await find_source('"https://example.org/my%20clip.mp4?x=1"') == ("my clip.mp4", 0)
