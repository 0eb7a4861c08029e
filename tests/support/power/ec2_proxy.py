"""A proxy before moto with the unpleasant sides of EC2, which moto has not.

Copied from https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and API_StateReason.html: starts
and stops take a while; a stopped instance has no public address and gets another one at each start; a start fails for
want of capacity at once, or later with a state reason; calls are throttled; some are not allowed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs
from xml.etree import ElementTree as ET

import aiohttp
from aiohttp import web

from tests.support.programs import plain_server

SPACE = "ec2.amazonaws.com/doc/2016-11-15/"

CODES = {"pending": "0", "running": "16", "shutting-down": "32", "terminated": "48", "stopping": "64", "stopped": "80"}


@dataclass
class Ec2Proxy:
    """The proxy at `url`.

    Attributes:
        target: The address of moto.
        looks: How many descriptions still show `pending` or `stopping` after a start or stop.
        faults: The next answers to an action: HTTP status, code and message.
        no_room: Starts are accepted, and fail later for want of capacity.
        asked: All actions that came.
    """

    target: str
    url: str = ""
    looks: int = 2
    faults: dict[str, deque[tuple[int, str, str]]] = field(default_factory=dict)
    no_room: bool = False
    asked: list[str] = field(default_factory=list)
    between: dict[str, tuple[str, int]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    starts: int = 0
    session: aiohttp.ClientSession | None = None

    def fail(self, action: str, code: str, message: str = "as it says", status: int = 400) -> None:
        """The next call of `action` fails."""
        self.faults.setdefault(action, deque()).append((status, code, message))

    async def answer(self, request: web.Request) -> web.Response:
        """Pass a call on to moto, and change the answer."""
        body = await request.read()
        form = parse_qs(body.decode() or request.query_string)
        action = form["Action"][0]
        self.asked.append(action)
        if self.faults.get(action):
            return error(*self.faults[action].popleft())
        ids = [values[0] for name, values in form.items() if name.startswith("InstanceId.")]
        if (wrong := self._not_allowed(action, ids)) is not None:
            return wrong
        if action == "StartInstances" and self.no_room:
            self.failed.update(ids)
            self.between.update(dict.fromkeys(ids, ("pending", self.looks)))
            return web.Response(text="<StartInstancesResponse><instancesSet/></StartInstancesResponse>")
        assert self.session is not None
        status, text = await forwarded(self.session, self.target, request)
        text = self._changed(action, ids, text) if status < 300 else text
        return web.Response(text=text, status=status, content_type="text/xml")

    def _not_allowed(self, action: str, ids: list[str]) -> web.Response | None:
        """EC2 refuses to start what is still stopping, and to stop what is still starting; moto does not."""
        if action in ("StartInstances", "StopInstances") and any(each in self.between for each in ids):
            return error(400, "IncorrectInstanceState", f"The instance '{ids[0]}' is not in a state from which it can")
        return None

    def _changed(self, action: str, ids: list[str], text: str) -> str:
        if action in ("StartInstances", "StopInstances"):
            before = re.search(r"<previousState>.*?<name>([a-z-]+)</name>", text, re.DOTALL)
            word, already = ("pending", "running") if action == "StartInstances" else ("stopping", "stopped")
            if before is None or before[1] != already:
                self.starts += word == "pending"
                self.between.update(dict.fromkeys(ids, (word, self.looks)))
            self.failed.difference_update(ids)
        return with_states(text, self._shown) if action == "DescribeInstances" else text

    def _shown(self, name: str, word: str) -> dict[str, str]:
        word, left = self.between.get(name, (word, 0))
        if left > 1:
            self.between[name] = (word, left - 1)
        else:
            self.between.pop(name, None)
        shown = {"state": word}
        if name in self.failed and word != "pending":
            shown["stateReason"] = "Server.InsufficientInstanceCapacity: no room for it"
        if word == "running":
            shown["ipAddress"] = f"203.0.113.{self.starts}"
        return shown


async def forwarded(session: aiohttp.ClientSession, target: str, request: web.Request) -> tuple[int, str]:
    """Pass a call on; its status and text."""
    headers = {name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length")}
    data = await request.read()
    async with session.request(request.method, target + request.path_qs, data=data, headers=headers) as response:
        # EC2's name space ends with a slash, and libcloud needs it
        return response.status, (await response.text()).replace('ec2.amazonaws.com/doc/2016-11-15"', SPACE + '"')


def with_states(text: str, shown: Callable[[str, str], Mapping[str, str]]) -> str:
    """A description of instances with other states.

    Args:
        text: The answer of DescribeInstances.
        shown: Called with an instance's id and state; returns the fields to show, among them `state`. An address is
            shown only if it is among them.
    """
    root = ET.fromstring(text)  # noqa: S314 - our own moto's
    space = root.tag.partition("}")[0].removeprefix("{")
    ns = f"{{{space}}}"
    for item in root.iter(f"{ns}item"):
        name = item.findtext(f"{ns}instanceId")
        state = item.find(f"{ns}instanceState")
        if name and state is not None:
            _show(item, ns, dict(shown(name, state.findtext(f"{ns}name") or "")))
    ET.register_namespace("", space)
    return ET.tostring(root, encoding="unicode")


def _show(instance: ET.Element, ns: str, fields: dict[str, str]) -> None:
    word = fields.pop("state")
    _set(instance, ns, "instanceState", {"code": CODES.get(word, "0"), "name": word})
    code, _, message = fields.pop("stateReason", "").partition(": ")
    if code:
        _set(instance, ns, "stateReason", {"code": code, "message": message})
    for name in ("ipAddress", "dnsName"):
        _set(instance, ns, name, {}).text = None
    for name, value in fields.items():
        _set(instance, ns, name, {}).text = value


def _set(parent: ET.Element, ns: str, name: str, fields: Mapping[str, str]) -> ET.Element:
    found = parent.find(f"{ns}{name}")
    found = ET.SubElement(parent, f"{ns}{name}") if found is None else found
    for child in list(found):
        found.remove(child)
    for key, value in fields.items():
        ET.SubElement(found, f"{ns}{key}").text = value
    return found


def error(status: int, code: str, message: str) -> web.Response:
    """An error in EC2's form."""
    text = (
        f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        "<RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>"
    )
    return web.Response(text=text, status=status, content_type="text/xml")


@asynccontextmanager
async def ec2_proxy(target: str) -> AsyncIterator[Ec2Proxy]:
    """A proxy that passes calls on to `target`."""
    proxy = Ec2Proxy(target)
    async with plain_server.answering(proxy.answer) as proxy.url, aiohttp.ClientSession() as proxy.session:
        yield proxy
