"""The power provider `libcloud`: the drivers of Apache Libcloud, for clouds that have no provider of their own here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power.account import AccountPower, Pattern
from wakestream.adapters.power.config import Machine, PowerConfig, id_of, needs
from wakestream.operators.model.errors import Denied, Gone, NoCapacity, PowerError, QuotaExceeded, Transient, TryAgain
from wakestream.operators.model.ports import PowerState, Reading

OWN = ("driver", "credentials", "address")

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("digitalocean", "vultr", "linode"), "a machine that is off costs as much as one that runs, until it is deleted"
    ),
    **dict.fromkeys(("equinixmetal", "maxihost"), "a server that is off costs as much as one that runs"),
}
"""Drivers of clouds where a stop saves nothing, and why."""

_SECRETS = frozenset({"key", "secret", "token", "password", "ex_force_auth_token"})
"""Arguments that are never taken from options, since others on the machine can read a program's options."""

_CREDENTIALS: Mapping[str, tuple[str, ...]] = {
    "gce": ("user_id", "key"),
    "azure_arm": ("tenant_id", "subscription_id", "key", "secret"),
    "cloudscale": ("key",),
    "libvirt": (),
}

# What drivers lose: each knows its cloud's own word better than the common state says.
_WORDS: Mapping[str, Mapping[str, PowerState]] = {
    "gce": {"terminated": "stopped", "stopping": "stopping", "suspending": "stopping", "repairing": "starting"},
    "ec2": {"stopping": "stopping", "shutting-down": "terminated"},
}

_DELETES = frozenset({"ec2", "outscale", "openstack", "cloudstack"})
"""Drivers whose state `terminated` means deleted; of libvirt, Azure, CloudSigma and others it means off."""


class LibcloudPower(AccountPower):
    """Switches a machine by a driver of Apache Libcloud.

    Args:
        config: The configuration. Options: `driver`, its name, such as `openstack`; `credentials`, the names of the
            driver's arguments that are secret, by default `key,secret`: each is read from `LIBCLOUD_` and its name in
            capitals; `address`, `public` (by default) or `private`. All others are arguments of the driver.

    Example:
        >>> power = LibcloudPower(PowerConfig("lips", {"driver": "gce", "project": "p", "datacenter": "us-east1-b"}))
    """

    name, id_form = "libcloud", r"(?!)"  # ids have no common form: the list tells ids and names apart
    states: ClassVar[Mapping[str, PowerState]] = {
        **dict.fromkeys(("running", "migrating", "updating"), "running"),
        **dict.fromkeys(("starting", "pending", "rebooting", "reconfiguring"), "starting"),
        "stopping": "stopping",
        "stopped": "stopped",
        # A machine in these states is not started by a start: it needs a resume, or help.
        **dict.fromkeys(("suspended", "paused", "error"), "failed"),
    }
    errors: ClassVar[Sequence[Pattern]] = (
        # Of EC2, GCE and OpenStack: too many calls, or a machine between two states.
        (r"RequestLimitExceeded|rateLimitExceeded|Throttl|too many requests|IncorrectInstanceState|resourceNotReady",
         TryAgain),
        (r"Insufficient\w*Capacity|RESOURCE_POOL_EXHAUSTED|stockout|AllocationFailed|SkuNotAvailable"
         r"|No valid host|does not have enough resources|NoStock|out of (stock|capacity)", NoCapacity),
        (r"quota|LimitExceeded|insufficient (credit|balance|funds)", QuotaExceeded),
        (r"Unauthori[sz]ed|AuthFailure|AccessDenied|Forbidden|ExpiredToken|invalid_grant|credentials"
         r"|^40[13]\b", Denied),
        (r"InvalidInstanceID.NotFound|ResourceNotFound|^404\b", Gone),
        (r"^409\b", TryAgain),  # of Azure also for quotas, and for want of capacity: after these
    )  # fmt: skip

    def __init__(self, config: PowerConfig) -> None:
        super().__init__(config)
        options = dict(config.options)
        self._driver_name, wanted, self._which = (options.pop(name, "") for name in OWN)
        if self._which not in ("", "public", "private"):
            raise SettingsError(f"--power-option address={self._which[:40]}: write public or private")
        factory = self._factory()
        arguments = {name: _value(name, text) for name, text in options.items()}
        if given := sorted(_SECRETS.intersection(options)):
            raise SettingsError(
                f"--power-option {given[0]}: credentials are read from LIBCLOUD_{given[0].upper()} only"
            )
        names = _names(wanted) if wanted else _CREDENTIALS.get(self._driver_name, ("key", "secret"))
        secrets = {name: config.secret(f"LIBCLOUD_{name.upper()}") for name in names if name not in arguments}
        self._secrets = [secret for secret in secrets.values() if len(secret) > 3]
        self._make: Callable[[], Any] = lambda: factory(**secrets, **arguments)
        self._types, self._http = (
            needs("libcloud.common.types", "libcloud"),
            needs("libcloud.common.exceptions", "libcloud"),
        )
        self._driver: Any = None
        # Drivers are not safe in several threads, and a call goes on in its thread after its time limit.
        self._thread = ThreadPoolExecutor(1, "libcloud")

    async def start(self) -> None:
        """See `Power.start`. Some drivers return only when the cloud has started it, or has found no room for it."""
        await self._switch("start_node")

    async def stop(self) -> None:
        """See `Power.stop`."""
        await self._switch("stop_node")

    async def inspect(self) -> Reading:
        """See `Power.inspect`."""
        node = await self._node()
        state, word = self._state(node)
        return Reading(state, self._address(node) if state == "running" else None, detail=word)

    async def machines(self) -> Sequence[Machine]:
        """See `Provider.machines`. `gpu` is the machine's type, if the driver says it."""
        return [self._listed(node) for node in await self._nodes()]

    async def close(self) -> None:
        """Leave the calls out that have not begun; drivers have nothing to close."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- the driver

    def _factory(self) -> Callable[..., Any]:
        providers, base = needs("libcloud.compute.providers", "libcloud"), needs("libcloud.compute.base", "libcloud")
        name = self._driver_name
        if not name:
            raise SettingsError("the power provider libcloud needs --power-option driver=NAME, such as openstack")
        if name in REFUSED:
            raise SettingsError(f"--power-option driver={name}: {REFUSED[name]}; wakestream would save nothing there")
        try:
            factory: Any = providers.get_driver(name)
        except (AttributeError, ImportError, KeyError) as error:
            raise SettingsError(f"--power-option driver={name[:40]}: libcloud has no such driver ({error})") from None
        for call in ("start_node", "stop_node"):
            if getattr(factory, call) is getattr(base.NodeDriver, call):
                raise SettingsError(f"--power-option driver={name}: this driver of libcloud has no `{call}`")
        return factory  # type: ignore[no-any-return]

    async def _call(self, call: Callable[[Any], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, call)

    def _guarded(self, call: Callable[[Any], Any]) -> Any:
        try:
            if self._driver is None:
                self._driver = self._make()
                # Drivers take no time limit; the connection has one for operations, and its session one for requests.
                connection = getattr(self._driver, "connection", None)
                session = getattr(getattr(connection, "connection", None), "session", None)
                for limited in (connection, session):
                    if limited is not None:
                        limited.timeout = 0.9 * self._limit
            return call(self._driver)
        except Exception as error:  # drivers raise errors of all kinds, bare `Exception` among them
            code = getattr(error, "code", None) or getattr(error, "http_code", None) or ""
            message = self.plain(f"{code} {error}")
            text = f"libcloud: {self._driver_name}: {type(error).__name__} {message}"
            if isinstance(error, self._http.RateLimitReachedError):
                raise TryAgain(text, error.retry_after or 5.0) from None
            if isinstance(error, self._types.InvalidCredsError):
                raise Denied(text) from None
            if "Timeout" in type(error).__name__:
                raise Transient(f"libcloud: {self._driver_name} did not answer within {self._limit:g} s") from None
            kind = self.meaning(message)
            raise kind(text) if kind is not None else self._unknown_error(error, text) from None

    def _unknown_error(self, error: Exception, text: str) -> PowerError:
        if isinstance(error, TypeError | ValueError | NotImplementedError):  # arguments that the driver does not take
            return PowerError(f"{text}; check the options of --power libcloud")
        if not isinstance(error, OSError):
            self.note_unknown(text)
        return Transient(text)

    # --- nodes

    async def _nodes(self) -> Sequence[Any]:
        nodes: Sequence[Any] = await self._call(lambda driver: driver.list_nodes())
        return nodes

    async def _node(self) -> Any:
        nodes = await self._nodes()
        if not nodes:  # drivers read a page of a proxy as an empty list, and then nothing may count as deleted
            raise Transient(f"libcloud: {self._driver_name} lists no machine at all")
        if self._id is None:
            self._id = id_of(self._machine, [self._listed(node) for node in nodes])
        for node in nodes:
            if str(node.id) == self._id:
                return node
        raise Gone(f"libcloud: {self._driver_name} does not list the machine {self._machine} any more")

    async def _switch(self, call: str) -> None:
        node = await self._node()
        if self._state(node)[0] == "terminated":
            raise Gone(f"libcloud: the machine {self._machine} is deleted")
        if await self._call(lambda driver: getattr(driver, call)(node)) is False:
            raise Transient(f"libcloud: {self._driver_name} refused `{call}` without a reason")

    def _state(self, node: Any) -> tuple[PowerState, str]:
        common = str(getattr(node.state, "value", node.state))
        own = str((node.extra or {}).get("status") or "").lower()
        known = _WORDS.get(self._driver_name, {}).get(own)
        if known is None and common == "terminated":
            known = "terminated" if self._driver_name in _DELETES else "stopped"
        return known or self.states.get(common, "unknown"), own or common

    def _listed(self, node: Any) -> Machine:
        size = (node.extra or {}).get("instance_type") or getattr(node.size, "name", "") or ""
        return Machine(str(node.id), node.name or "", self._state(node)[0], str(size), address=self._address(node))

    def _address(self, node: Any) -> str | None:
        addresses = [*(node.private_ips or ())] if self._which == "private" else [*(node.public_ips or ())]
        addresses = [address for address in [*addresses, *(node.private_ips or ())] if address]
        return f"[{addresses[0]}]" if addresses and ":" in addresses[0] else addresses[0] if addresses else None


def _names(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(part.strip() for part in text.split(","))


def _value(name: str, text: str) -> object:
    """An option as the argument of a driver. Only ports are numbers: names of projects may look like one."""
    if text in ("true", "false"):
        return text == "true"
    number = whole_number(text) if name == "port" else None
    return text if number is None else number


create = LibcloudPower
