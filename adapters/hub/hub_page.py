"""The page that a browser shows at a hub's address."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from wakestream.adapters.net.status_page import Words, page, words_for
from wakestream.streams.hub.ledger import boot_times
from wakestream.streams.hub.state import HubState

GPUS: Final = 50
"""GPUs that are listed; the others are counted."""


def hub_page(state: HubState, now: float, languages: str = "") -> bytes:
    """A hub's page: its GPUs and the number of waiting jobs, without names of jobs and licenses.

    `languages` is the browser's `Accept-Language` header.
    """
    words = words_for(languages)
    return page(words, "wakestream hub", words["hub"], hub_facts(state, now, words))


def standby_page(leader: str, languages: str = "") -> bytes:
    """The page of a hub that stands by; `languages` as for `hub_page`."""
    words = words_for(languages)
    return page(words, "wakestream hub", words["standby"], [(words["leader"], leader or "-")])


def hub_facts(state: HubState, now: float, words: Words) -> Sequence[tuple[str, str]]:
    """The rows of a hub's page."""
    jobs = partial(words.count, "jobs")
    gpus = [
        (f"GPU {gpu.name}", " · ".join((words.phase(gpu.phase), words.time(now - gpu.since), jobs(len(gpu.leases)))))
        for gpu in list(state.gpus.values())[:GPUS]
    ]
    if len(state.gpus) > GPUS:
        gpus.append((words["more"], str(len(state.gpus) - GPUS)))
    boots = boot_times(seconds for _, seconds in state.boots)
    peers = words.count("clients", len(state.clients)), words.count("monitors", len(state.monitors))
    return [
        *(gpus or [("GPU", words["no_gpu"])]),
        (words["waiting"], jobs(len(state.queue))),
        (words["boot"], words.usual(boots["p50"], boots["p90"]) if boots else words["no_boot"]),
        (words["connected"], words["peers"].format(*peers)),
        *([(words["depot"], words["ready" if state.depot_up else "away"])] if state.has_depot else []),
    ]
