"""In which language the commands speak in these tests: English, unless the test wants Chinese."""

from collections.abc import Iterator

import pytest

from wakestream.adapters.cli.i18n import choose


@pytest.fixture
def chinese() -> Iterator[None]:
    """The texts are Chinese in this test."""
    choose("zh")
    yield
    choose("en")
