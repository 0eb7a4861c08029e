"""`--set NAME=VALUE`, checked against what the logs' programs know."""

import re

import pytest

from tests.support.streams.replay_scene import recorded
from wakestream.adapters.cli.commands.replay import BadSetting, what_if
from wakestream.streams.recording.recording import Header, Log

CLIENT = recorded("online")
HUB = Log(Header("hub", 0.0, 0, {"policy": {}}), ())
MONITOR = Log(Header("monitor", 0.0, 0, {"policy": {"gpu": "g"}}), ())


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ("online_timeout=60", "online_timeout", 60),
        ("online=30min", "online", 1800.0),
        (" poll_every = 0.5s ", "poll_every", 0.5),
        ("again.max_retries=2", "again.max_retries", 2),
        ("again.jitter=0", "again.jitter", 0),
        ("again.max_elapsed=none", "again.max_elapsed", None),
        ("hub_timeout=none", "hub_timeout", None),
    ],
)
def test_a_setting_of_the_client(change: str, name: str, value: float | None) -> None:
    assert what_if([change], [CLIENT]).of(CLIENT) == {name: value}


def test_each_program_gets_the_settings_that_it_has() -> None:
    asked = what_if(["idle_after=60", "queued_ttl=10", "poll_every=1"], [CLIENT, HUB, MONITOR])
    assert asked.of(CLIENT) == {"poll_every": 1}
    assert asked.of(HUB) == {"queued_ttl": 10}
    assert asked.of(MONITOR) == {"idle_after": 60}
    assert asked.all == {"idle_after": 60, "queued_ttl": 10, "poll_every": 1}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("online_timeout", "write NAME=VALUE"),
        ("=3", "write NAME=VALUE"),
        ("online_timeout=", "write NAME=VALUE"),
        ("onlin=3", "there is no 'onlin'; there are again.factor, "),
        ("again=3", "there is no 'again'"),
        ("again.nothing=3", "there is no 'nothing'"),
        ("online_timeout=soon", "is not a time"),
        ("online_timeout=0", "is not between 0.01 and 1e9"),
        ("line_every=1e-9", "is not between 0.01 and 1e9"),
        ("online_timeout=-1", "is not between"),
        ("online_timeout=nan", "is not between"),
        ("online_timeout=inf", "is not between"),
        ("online_timeout=none", "cannot be none; give a number"),
        ("again.on_retry=1", "only numbers can be changed"),
        ("call.retry_on=1", "--set call.retry_on: is a function, and no number; only numbers can be changed"),
    ],
)
def test_anything_else_is_refused_with_a_sentence(change: str, why: str) -> None:
    with pytest.raises(BadSetting, match=re.escape(why)):
        what_if([change], [CLIENT])


def test_a_name_is_no_number() -> None:
    with pytest.raises(BadSetting, match="gpu: is 'g' in this log, and no number"):
        what_if(["gpu=3"], [MONITOR])
