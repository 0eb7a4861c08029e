"""Metrics of the connection to the hub, for worker, daemon and monitor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import Metric

from wakestream.adapters.telemetry import metric_families as ff
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Direction, Tap


class LinkWatch(Tap):
    """A tap that counts the connections to the hub."""

    def __init__(self) -> None:
        self.ups = 0
        self.connected = False

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`."""
        if direction == "conn" and label in ("up", "down"):
            self.connected = label == "up"
            self.ups += self.connected

    def frame(self, direction: Direction, message: m.Message) -> None:
        """Frames are not counted."""

    def families(self, program: str) -> Iterator[Metric]:
        """The metrics."""
        yield ff.gauge(f"wakestream_{program}_hub_connected", "1 while the hub has registered us.", self.connected)
        again = max(0, self.ups - 1)
        yield ff.counter(f"wakestream_{program}_hub_reconnects_total", "Connections after the first one.", again)
