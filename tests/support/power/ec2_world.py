"""EC2 for the conformance suite: moto answers, and the states, addresses and times in its answers are the world's.

An id that EC2 does not find for a moment is in docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, ClassVar

import aiohttp
import boto3
from aiohttp import web

from tests.support.power.ec2_proxy import error, forwarded, with_states
from wakestream.adapters.power import ec2, libcloud
from wakestream.adapters.power.config import PowerConfig, Provider
from wakestream.adapters.testing.http_stand_in import ANY_API, Act, HttpStandIn
from wakestream.adapters.testing.power_world import Fault
from wakestream.operators.model.ports import PowerState

REGION, IMAGE = "eu-central-1", "ami-12c6146b"
TIMEOUT = 5.0
"""Seconds of one call: boto3 and moto together take longer than the suite's own limit."""

KEY, SECRET = "AKIATESTTESTTESTTEST", "secret-of-the-test-account"

WORDS: dict[PowerState, str] = {
    "stopped": "stopped", "starting": "pending", "running": "running", "stopping": "stopping",
    "terminated": "terminated",
}  # fmt: skip


def account(moto: str) -> Any:
    """A client for moto itself."""
    return boto3.client(
        "ec2", region_name=REGION, endpoint_url=moto, aws_access_key_id="test", aws_secret_access_key="test"
    )


def instance(client: Any, name: str, *, stopped: bool = True) -> str:
    """A new instance in moto; its id."""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
    made = client.run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceType="g5.xlarge", TagSpecifications=tags)
    found = str(made["Instances"][0]["InstanceId"])
    if stopped:
        client.stop_instances(InstanceIds=[found])
    return found


class Ec2World(HttpStandIn):
    """One instance.

    Args:
        moto: The address of moto.
        client: Its client.
    """

    faults, addresses = ANY_API | {"no_capacity", "quota"}, True
    call_timeout, within = TIMEOUT, 50.0
    keys: ClassVar[dict[str, str]] = {"key": KEY, "secret": SECRET}

    def __init__(self, moto: str, client: Any) -> None:
        super().__init__()
        self.moto, self.client = moto, client
        self._described: dict[str, str] = {}
        self.name = f"studio gpu {time.monotonic_ns()}"
        self.instance = instance(client, self.name)

    def provider(self, *, machine: str | None = None, timeout: float = TIMEOUT) -> Provider:
        return ec2.create(PowerConfig(machine or self.instance, {"region": REGION}, timeout=timeout, base_url=self.url))

    async def replace(self) -> None:
        old, self.instance = self.instance, instance(self.client, self.name)
        self.client.terminate_instances(InstanceIds=[old])
        self._described.clear()

    async def unknown_word(self) -> None:
        self.machine.odd = "meditating"

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/", self._answer)]  # libcloud asks by GET

    def act(self, request: web.Request, body: Any) -> Act:
        acts: dict[str, Act] = {"StartInstances": "start", "StopInstances": "stop"}
        return acts.get({**request.query, **body}.get("Action", ""), "")

    def trusts(self, request: web.Request, body: Any) -> bool:
        return KEY in request.headers.get("Authorization", "") + request.query_string

    def denied(self) -> web.Response:
        return error(403, "AuthFailure", f"AWS was not able to validate {KEY} with {SECRET}")

    def throttled(self) -> web.Response:
        return error(503, "RequestLimitExceeded", "Request limit exceeded.")

    def refused(self, fault: Fault) -> web.Response:
        if fault == "no_capacity":
            why = "We currently do not have sufficient g5.xlarge capacity in the Availability Zone you requested"
            return error(500, "InsufficientInstanceCapacity", why)
        if fault == "quota":
            return error(400, "VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit")
        return error(400, "NoDocumentHasThisCode", "a reason of its own")

    async def _answer(self, request: web.Request) -> web.Response:
        action = {**request.query, **await request.post()}["Action"]
        if self.fault == "missing":
            return error(400, "InvalidInstanceID.NotFound", f"The instance ID '{self.instance}' does not exist")
        if action == "StartInstances":
            self.start()
        elif action == "StopInstances":
            self.stop()
        status, text = await self._of_moto(str(action), request)
        if action == "DescribeInstances":
            text = with_states(text, self._shown)
        return web.Response(text=text, status=status, content_type="text/xml")

    async def _of_moto(self, action: str, request: web.Request) -> tuple[int, str]:
        """Moto's answer. It is asked only once for its instances, as it is slow and the states are the world's."""
        asked = {**request.query, **await request.post()}
        which = str(asked.get("InstanceId.1") or asked.get("Filter.1.Value.1"))
        if action == "DescribeInstances" and which in self._described:
            return 200, self._described[which]
        async with aiohttp.ClientSession() as session:
            status, text = await forwarded(session, self.moto, request)
        if action == "DescribeInstances" and status == 200:
            self._described[which] = text
        return status, text

    def _shown(self, name: str, word: str) -> dict[str, str]:
        if name != self.instance:
            return {"state": word}
        word = self.machine.odd or WORDS[self.state]
        launched = datetime.fromtimestamp(time.time() + self.skewed, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        shown = {"state": word, "launchTime": launched}
        return {**shown, "ipAddress": self.machine.address} if word == "running" else shown


class LibcloudWorld(Ec2World):
    """The same by the driver `ec2` of Apache Libcloud."""

    def provider(self, *, machine: str | None = None, timeout: float = TIMEOUT) -> Provider:
        host, port = self.url.removeprefix("http://").split(":")
        options = {"driver": "ec2", "region": REGION, "host": host, "port": port, "secure": "false"}
        credentials = {"LIBCLOUD_KEY": KEY, "LIBCLOUD_SECRET": SECRET}
        return libcloud.create(PowerConfig(machine or self.instance, options, credentials.__getitem__, timeout=timeout))
