"""Which transfers count as a use of the machine."""

import time

import pytest
from aiohttp.test_utils import make_mocked_request

from wakestream.adapters.net.capabilities import Claims
from wakestream.adapters.net.capability_keys import Verifier
from wakestream.adapters.worker.http import auth
from wakestream.adapters.worker.http.transfers import DOWNLOAD, LEAST, Progress, Transfers
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import LEEWAY


class Upload:
    """A call with a capability that sends bytes."""

    def __init__(self, method: str = "PATCH") -> None:
        self.now, self.sent = time.time(), 0
        self.verifier = Verifier("gpu", lambda: self.now)
        self.request = make_mocked_request(method, "/files/x", payload=self)
        self.request[auth._CLAIMS] = Claims("job-1", "lic", "gpu", int(self.now), int(self.now) + 900)
        self.request[auth._VERIFIER] = self.verifier

    @property
    def total_bytes(self) -> int:
        return self.sent


async def test_an_upload_moves_while_enough_bytes_come() -> None:
    upload, transfers = Upload(), Transfers()
    with transfers.running(Progress(upload.request)):
        upload.sent += LEAST
        assert transfers.moving()
        upload.sent += LEAST - 1
        assert not transfers.moving()
        assert transfers.open == 1
    assert not transfers.moving()


@pytest.mark.parametrize("method", ["PATCH", "GET"])
@pytest.mark.parametrize("why", ["expired", "revoked", "ended"])
async def test_a_transfer_that_is_not_allowed_any_more_does_not_move(method: str, why: str) -> None:
    upload = Upload(method)
    moves = Progress(upload.request)
    upload.sent += LEAST
    assert moves()
    match why:
        case "expired":
            upload.now += 901 + LEEWAY
        case "revoked":
            upload.verifier.revoke("lic")
        case "ended":
            upload.verifier.ended.feed(m.JobDone(request_id="job-1", license="lic"))
    upload.sent += LEAST
    assert not moves()


async def test_a_download_counts_for_a_while() -> None:
    moves = Progress(Upload("GET").request)
    assert moves()
    moves._began -= DOWNLOAD
    assert not moves()
