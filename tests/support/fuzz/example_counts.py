"""How many examples a test tries: the same few each time, or as many random ones as WAKESTREAM_FUZZ says."""

import os

from hypothesis import HealthCheck, settings

_RANDOM = int(os.environ.get("WAKESTREAM_FUZZ", "0"))

BOUNDED = settings(
    derandomize=not _RANDOM, database=None, deadline=None, max_examples=_RANDOM or 80,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
