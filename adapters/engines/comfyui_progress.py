"""The progress of a ComfyUI prompt: nodes that are done, and the value within a node, weighted by earlier runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from wakestream.adapters.disk.atomic import write_atomic
from wakestream.operators.model.engine import Frame

_UNKNOWN = 1.0
"""Seconds that a node counts for which never ran here."""

_LEAST = 0.01

ENDS: Final = ("execution_success", "execution_error", "execution_interrupted")
"""The last messages of a prompt, except for an `executing` without a node."""


class NodeTimes:
    """Seconds that each node took lately, by its kind, its id and its class.

    Args:
        path: Where they are kept: the machine is switched off between two jobs. None: nowhere.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[tuple[str, ...], float] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):  # only the progress would be less exact
            kept = orjson.loads(path.read_bytes()) if path is not None else {}
            self._known = {tuple(key.split(" ", 2)): float(seconds) for key, seconds in kept.items()}

    def of(self, kind: str, node: str, class_type: str) -> float:
        """The seconds of a node; those of other nodes of the class if this one never ran."""
        same = [seconds for (*_, known), seconds in self._known.items() if known == class_type]
        default = sum(same) / len(same) if same else _UNKNOWN
        return self._known.get((kind, node, class_type), default)

    def learn(self, progress: PromptProgress) -> None:
        """Remember what the nodes of a finished prompt took; messages may be late, so the last runs count by half."""
        for node, seconds in progress.took.items():
            key = (progress.kind, node, progress.class_of(node))
            before = self._known.get(key, seconds)
            self._known[key] = max(_LEAST, round((before + seconds) / 2, 3))
        if self._path is not None:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self._path, orjson.dumps({" ".join(key): value for key, value in self._known.items()}))


class PromptProgress:
    """How far a prompt is.

    Args:
        kind: The name of the kind.
        workflow: Its nodes.
        times: What nodes took earlier.
        clock: Seconds.
    """

    def __init__(
        self,
        kind: str,
        workflow: Mapping[str, Mapping[str, Any]],
        times: NodeTimes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind, self._workflow, self._clock = kind, workflow, clock
        self._weights = {node: times.of(kind, node, str(made.get("class_type"))) for node, made in workflow.items()}
        self._part: dict[str, float] = {}
        self._steps = (0, 0)
        self._since: tuple[str, float] | None = None
        self.took: dict[str, float] = {}

    def class_of(self, node: str) -> str:
        """The class of a node."""
        return str(self._workflow.get(node, {}).get("class_type"))

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take one message of the WebSocket."""
        if kind == "execution_cached":
            nodes = data.get("nodes")
            self._part |= dict.fromkeys(map(str, nodes if isinstance(nodes, list) else ()), 1.0)
        elif kind == "executing":
            self._enter(data.get("node"))
        elif kind == "progress_state":
            nodes = data.get("nodes")
            for node, state in (nodes if isinstance(nodes, dict) else {}).items():
                if isinstance(state, dict):
                    self._set(node, state.get("value"), state.get("max"), done=state.get("state") == "finished")
        elif kind == "progress":
            self._set(str(data.get("node")), data.get("value"), data.get("max"), done=False)
        elif kind in ENDS and self._since is not None:
            self.took[self._since[0]] = self._clock() - self._since[1]
            self._since = None

    def _enter(self, node: object) -> None:
        now = self._clock()
        if self._since is not None:
            before, at = self._since
            self._part[before] = 1.0
            self.took[before] = now - at
        self._since = None if node is None else (str(node), now)
        self._steps = (0, 0)

    def _set(self, node: str, value: object, most: object, *, done: bool) -> None:
        if not isinstance(value, int | float) or not isinstance(most, int | float) or not 0 < most < 1e9:
            return
        value = max(0, min(value, most))
        self._part[node] = 1.0 if done else max(self._part.get(node, 0.0), min(1.0, value / most))
        if most > 1 and not done:
            self._steps = (int(value), int(most))

    def frame(self) -> Frame:
        """The progress of the whole prompt; `frame` and `frames` are the steps of the present node."""
        whole = sum(self._weights.values())
        done = sum(self._weights[node] * part for node, part in self._part.items() if node in self._weights)
        return Frame(*self._steps, round(100.0 * done / whole, 1) if whole else 0.0)
