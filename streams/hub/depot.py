"""The depot at the hub: whose files it has, the jobs that the hub does by itself, and their results. Pure.

What other parts use of it:

- `events.AskDepot(ask, owner, request_id, fd, files, gpu)` is the command to the store, `events.DepotAnswered(asked,
  have, code, reason)` the event with its outcome: the adapter puts the whole command into it. `remove` names its files
  as `open` and `check` do. Questions about one license are asked in their order.
- `events.Links(owner, job, method)` is the seal of `places` (put), `fetch` and `delivered` (get): the adapter fills
  `files` by the store's `sign`, for our own depot also `depot`, `capability` and `expires`. Its address is
  `state.depot_url`, its name `state.depot_of[1]`. Clients hear of the feature if `state.has_depot`.
- `Limits.depot` (a bucket), `depot_keep`, `depot_quota` (bytes), `depot_files`; `PlacePolicy.wake_when`.
- A client that submits a stored job again gets `stored`, and then the usual answer of a job that waits, or `progress`
  if a GPU has it; after the end it gets `delivered`. `delivered` may come for a job of another program of the license.
- A worker repeats the files of its results in `delivered` (name, blake3, ext, size). With the code `gone` an input is
  not in the depot, or is not what it should be: the job waits for its client again. `stored` ends its part.
"""

from __future__ import annotations

from typing import Final

from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.state import HubState

NAME: Final = "depot"
"""The name of our own depot, unless it gives another."""

GONE: Final = "gone"
"""The code of a worker that cannot fetch an input, because it is not in the depot."""


def refusal(state: HubState, event: f.Registering) -> tuple[str, str] | None:
    """Why this depot may not serve this hub, or None."""
    if event.message.role != NAME:
        return None
    if state.limits.depot:
        return "depot_taken", "the files of this hub are in a bucket; start the hub without --depot to use this depot"
    owner = event.license.id if event.license is not None else ""
    if state.depot_of is not None and state.depot_of[0] != owner:
        return "depot_taken", (
            "another license runs the depot of this hub; use its key, or at the hub `wakestream license release` for it"
        )
    return None


def answered(state: HubState, event: f.DepotAnswered, now: float, decision: HubDecision) -> None:
    """The depot said what it has of the files of a job."""
