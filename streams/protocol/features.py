"""Words that both sides of the wire compare: features that peers announce, codes of the depot, reasons of a wait."""

from __future__ import annotations

from typing import Final

CAPABILITY: Final = "capability"
"""What clients, workers and the hub announce for capabilities, and the name of the token's first format.

A later format gets a name of its own, `capability.2`, and is sent only where client and worker announced that one.
"""

ENDED: Final = "done"
"""Announced by workers that want to know when a job has ended: its capability then starts nothing more."""

LEEWAY: Final = 60.0
"""Seconds by which the clocks of hub and worker may differ: a capability is taken that much longer."""

HUB_STATUS: Final = "hub_status"
"""The feature of peers that ask for the hub's status, and of hubs that answer."""

GPU_URL: Final = "gpu_url"
"""The feature of such peers that read the workers' addresses, and of hubs that send them."""

POWEROFF: Final = "poweroff"
"""Announced by workers that switch their machine off when their monitor or hub has gone."""

STATUS_OF_GPU: Final = "status_of_gpu"
"""Announced by a client and its hub: `gpu` in `gpu.status.query`."""

GONE: Final = "gone"
"""The code of a worker to which the depot gives other bytes than those of an input."""

REFUSED: Final = "refused"
"""The code of a worker to which the depot refuses each link: it gives the job back."""

UPLOADED: Final = "when the upload will be nearly done"
"""The reason of a planned start that waits for a job's files."""

ON_THE_WAY: Final = "its files are on the way to the depot"
"""The reason of a place in the queue whose job has no files there yet."""
