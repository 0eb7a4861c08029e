"""The power provider `ec2`: an instance of Amazon EC2, by boto3, each call in a thread.

The credentials are those that boto3 finds: environment, `~/.aws`, SSO, or the role of the machine that this runs on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power.account import AccountPower, Pattern
from wakestream.adapters.power.config import Machine, PowerConfig, needs
from wakestream.operators.model.errors import Denied, Gone, NoCapacity, PowerError, QuotaExceeded, Transient, TryAgain
from wakestream.operators.model.ports import PowerState, Reading

OPTIONS = ("region", "profile", "address")

_ADDRESSES = {
    "public": ("PublicIpAddress", "Ipv6Address", "PrivateIpAddress"),
    "private": ("PrivateIpAddress",),
    "dns": ("PublicDnsName", "PrivateDnsName"),
}
_REASON = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)")


class Ec2Power(AccountPower):
    """Switches an instance of EC2.

    Args:
        config: The configuration. Options: `region` and `profile`, by default those of boto3; `address`, which of the
            instance's addresses clients use: `public` (by default), `private` or `dns`.

    Example:
        >>> power = Ec2Power(PowerConfig("i-0123456789abcdef0", {"region": "eu-central-1"}))
    """

    name, id_form = "ec2", r"i-[0-9a-f]{8,17}"
    states: ClassVar[Mapping[str, PowerState]] = {
        "pending": "starting",
        "running": "running",
        "stopping": "stopping",
        "stopped": "stopped",
        **dict.fromkeys(("shutting-down", "terminated"), "terminated"),
    }
    # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
    errors: ClassVar[Sequence[Pattern]] = (
        (r"^(RequestLimitExceeded|(EC2)?Throttl\w+|IncorrectInstanceState|IncorrectState)\b", TryAgain),
        (r"^(Insufficient\w*Capacity\w*|SpotMaxPriceTooLow)\b", NoCapacity),
        (r"^((Vcpu|Instance|Volume|Resource)LimitExceeded|MaxSpotInstanceCountExceeded)\b", QuotaExceeded),
        (r"^(UnauthorizedOperation|AuthFailure|AccessDenied(Exception)?|Blocked|OptInRequired|PendingVerification"
         r"|InvalidClientTokenId|UnrecognizedClientException|MissingAuthenticationToken|SignatureDoesNotMatch"
         r"|IncompleteSignature|InvalidAccessKeyId|NotAuthorized|ExpiredToken(Exception)?|RequestExpired)\b", Denied),
        (r"^InvalidInstanceID\.NotFound\b", Gone),
        (r"^(InvalidInstanceID\.Malformed|Unsupported(Operation)?|OperationNotPermitted)\b", PowerError),
        (r"^(InternalError|InternalFailure|Unavailable|ServiceUnavailable)\b", Transient),
    )  # fmt: skip

    def __init__(self, config: PowerConfig) -> None:
        options = config.known(self.name, OPTIONS)
        super().__init__(config)
        self._which = options.get("address", "public")
        if self._which not in _ADDRESSES:
            raise SettingsError(f"--power-option address={self._which[:40]}: write public, private or dns")
        self._core, self._parsers = needs("botocore.exceptions", "ec2"), needs("botocore.parsers", "ec2")
        self._make = _client(config, options)
        self._client: asyncio.Task[Any] | None = None

    async def start(self) -> None:
        """See `Power.start`."""
        await self._switch("start_instances")

    async def stop(self) -> None:
        """See `Power.stop`."""
        await self._switch("stop_instances")

    async def inspect(self) -> Reading:
        """See `Power.inspect`."""
        machine = await self.machine()
        page = await self._call("describe_instances", InstanceIds=[machine])
        instance = next((described for described in _instances(page) if described["InstanceId"] == machine), None)
        if instance is None:  # EC2 answers an unknown id with an error, so that this is no answer of EC2
            raise Transient(f"ec2: the answer does not describe {self._machine}")
        return self._reading(instance)

    async def machines(self) -> Sequence[Machine]:
        """See `Provider.machines`: the instances of the region. `gpu` is the instance type."""
        machines: list[Machine] = []
        more: dict[str, str] = {}
        while True:
            page = await self._call("describe_instances", MaxResults=1000, **more)
            machines += [self._listed(instance) for instance in _instances(page)]
            if not page.get("NextToken"):
                return machines
            more = {"NextToken": page["NextToken"]}

    async def close(self) -> None:
        """Close the connections."""
        making, self._client = self._client, None
        if making is not None:
            await asyncio.wait((making,))
            if making.exception() is None:
                await asyncio.to_thread(making.result().close)

    async def _switch(self, call: str) -> None:
        try:
            await self._call(call, InstanceIds=[await self.machine()])
        except TryAgain as error:
            # EC2 answers IncorrectInstanceState for a deleted instance and for one that is still stopping.
            if "IncorrectInstanceState" in str(error) and (await self.inspect()).state == "terminated":
                raise Gone(f"ec2: the instance {self._machine} is terminated; create another one") from None
            raise

    async def _call(self, name: str, **arguments: Any) -> Any:
        client = await self._ready()
        return await asyncio.to_thread(self._guarded, getattr(client, name), **arguments)

    async def _ready(self) -> Any:
        """The client. It is made once, even if the first call is given up meanwhile: boto3 takes a second or more."""
        if self._client is None:
            self._client = asyncio.create_task(self._made(), name="ec2-client")
        try:
            return await asyncio.shield(self._client)
        except Exception:  # whatever it is: the next call makes another client
            self._client = None
            raise

    async def _made(self) -> Any:
        client, self._secrets = await asyncio.to_thread(self._guarded, self._make)
        return client

    def _guarded(self, call: Callable[..., Any], **arguments: Any) -> Any:
        core = self._core
        try:
            return call(**arguments)
        except core.ClientError as error:
            raise self._error(error.response.get("Error", {})) from None
        except core.NoRegionError:
            raise PowerError("ec2: no region is set; give --power-option region=REGION") from None
        except (core.ConnectTimeoutError, core.ReadTimeoutError):
            raise Transient(f"ec2: Amazon did not answer within {self._limit:g} s") from None
        except (core.HTTPClientError, core.ConnectionError, self._parsers.ResponseParserError) as error:
            raise Transient(f"ec2: no answer: {error}") from None
        except core.BotoCoreError as error:  # no credentials, half of them, an expired SSO login, no such profile, …
            raise Denied(f"ec2: {error}; see docs/power/ec2.md for credentials") from None

    def _error(self, answer: Mapping[str, str]) -> PowerError:
        # The message of UnauthorizedOperation ends in a long encoded text that only an administrator can decode.
        code, message = answer.get("Code", ""), answer.get("Message", "")
        error = self.error(code, message.partition(" Encoded authorization failure message")[0])
        return Gone(f"{error}; if it exists, check the region") if isinstance(error, Gone) else error

    def _reading(self, instance: Mapping[str, Any]) -> Reading:
        word = instance["State"]["Name"]
        state = self.state(word)
        reason, transition = instance.get("StateReason", {}), instance.get("StateTransitionReason", "")
        detail = f"{word}: {reason.get('Message') or transition}" if reason or transition else word
        if state == "stopped" and reason.get("Code") == "Server.InsufficientInstanceCapacity":
            state = "no_capacity"
        since = _since(instance, transition) if state in ("running", "starting", "stopped") else None
        return Reading(state, _address(instance, self._which) if state == "running" else None, since, detail)

    def _listed(self, instance: Mapping[str, Any]) -> Machine:
        name = next((tag["Value"] for tag in instance.get("Tags", ()) if tag["Key"] == "Name"), "")
        reading, gpu = self._reading(instance), instance.get("InstanceType", "")
        return Machine(instance["InstanceId"], name, reading.state, gpu, address=reading.address)


def _client(config: PowerConfig, options: Mapping[str, str]) -> Callable[[], tuple[Any, list[str]]]:
    boto3, settings = needs("boto3", "ec2"), needs("botocore.config", "ec2")
    # Of all attempts and waits the monitor decides. The two limits add up to less than that of the call.
    limits = settings.Config(
        connect_timeout=0.25 * config.timeout, read_timeout=0.7 * config.timeout, retries={"total_max_attempts": 1}
    )

    def make() -> tuple[Any, list[str]]:
        session = boto3.session.Session(profile_name=options.get("profile"), region_name=options.get("region"))
        client = session.client("ec2", endpoint_url=config.base_url, config=limits)
        credentials = session.get_credentials()
        return client, [text for text in credentials.get_frozen_credentials()[:3] if text] if credentials else []

    return make


def _instances(page: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for reservation in page.get("Reservations", ()):
        yield from reservation.get("Instances", ())


def _since(instance: Mapping[str, Any], transition: str) -> float | None:
    """When it was started, or stopped: EC2 tells the first as a field, the second in a text."""
    from datetime import UTC, datetime

    if instance["State"]["Name"] != "stopped":
        launched = instance.get("LaunchTime")
        return launched.timestamp() if launched is not None else None
    when = _REASON.search(transition)
    return datetime.fromisoformat(when[1]).replace(tzinfo=UTC).timestamp() if when else None


def _address(instance: Mapping[str, Any], which: str) -> str | None:
    address = next((str(instance[name]) for name in _ADDRESSES[which] if instance.get(name)), None)
    return f"[{address}]" if address and ":" in address else address


create = Ec2Power
