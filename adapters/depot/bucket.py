"""The bucket of a depot: its address, the clients of boto3, and its errors in our words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from wakestream.adapters.config import addresses
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.runtime.known_secrets import hide
from wakestream.operators.model.errors import DepotError

PUT_KEY: Final = ("WAKESTREAM_DEPOT_PUT_KEY_ID", "WAKESTREAM_DEPOT_PUT_SECRET")
"""The environment variables of a second key, which may only put: it signs the links for uploads."""

CALLS: Final = 8
"""Calls of the bucket at one time."""

_FULL: Final = frozenset({"507", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})
_PASSING: Final = frozenset({"RequestTimeout", "SlowDown", "OperationAborted", "InvalidPart", "429", "408"})


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the depot is.

    Attributes:
        name: The bucket.
        prefix: What all keys begin with, with a slash at its end, or nothing.
        endpoint: The address of the service; None for Amazon's.
        region: Its region; by default that of the AWS settings.
        style: How a link names the bucket: `path` or `virtual` (as a part of the host).
    """

    name: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    style: str = "path"

    @classmethod
    def parse(cls, url: str, endpoint: str | None = None) -> Bucket:
        """Read `s3://BUCKET/PREFIX?region=REGION&style=virtual&plain=HOST` and the endpoint.

        Raises:
            SettingsError: It is wrong, or the endpoint has no TLS: only loopback may, or the host that `plain` names.

        Example:
            >>> Bucket.parse("s3://films/wakestream").key("license", "00ff")
            'wakestream/license/files/00ff'
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        wrong = options.keys() - {"region", "style", "plain"}
        style = options.get("style", "path")
        if parts.scheme != "s3" or not parts.netloc or wrong or style not in ("path", "virtual"):
            why = f"--depot {url[:80]}: write s3://BUCKET/PREFIX, with ?region=REGION or &style=virtual if needed"
            folder = "; a folder is for `wakestream init hub --depot` or `wakestream depot run --state`"
            raise SettingsError(why if "://" in url else why + folder)
        if endpoint is not None:
            at = urlsplit(endpoint)
            host = at.hostname or ""
            if at.scheme not in ("http", "https") or not host or at.username or at.query:
                raise SettingsError(f"--depot-endpoint {host or 'URL'}: write an address such as https://s3.example")
            if at.scheme == "http" and not addresses.is_loopback(host) and options.get("plain") != host:
                raise SettingsError(
                    f"--depot-endpoint {endpoint}: without TLS everyone on the way can read the files and use the "
                    f"links; write https://, or allow it by --depot '{url}{'&' if options else '?'}plain={host}'"
                )
        prefix = parts.path.strip("/")
        return cls(parts.netloc, prefix and f"{prefix}/", endpoint, options.get("region"), style)

    def key(self, owner: str, blake3: str) -> str:
        """The key of a file: it has nothing of the file's name."""
        return f"{self.prefix}{owner}/files/{blake3}"


def clients(bucket: Bucket, environment: Mapping[str, str] = os.environ) -> tuple[Any, Any]:
    """Make the clients of boto3: one for all, and the one that signs the links for uploads.

    Credentials are found as boto3 finds them: environment, `~/.aws`, SSO, the role of the machine. The second client
    is the first one without `PUT_KEY`.

    Raises:
        SettingsError: boto3 is not installed, or there are no credentials.
    """
    try:
        boto3, settings = import_module("boto3"), import_module("botocore.config")
    except ImportError as error:
        raise SettingsError(f'--depot s3:// needs boto3 ({error}); run: pip install "wakestream[s3]"') from None
    # Signatures of version 2 do not sign the length, and other vendors do not know the newer checksums.
    config = settings.Config(
        signature_version="s3v4",
        s3={"addressing_style": bucket.style},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": 3},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=CALLS,
    )
    session = boto3.session.Session()
    credentials = session.get_credentials()
    if credentials is None:
        why = f"--depot s3://{bucket.name}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise SettingsError(why)
    is_r2 = (bucket.endpoint or "").rstrip("/").endswith(".r2.cloudflarestorage.com")
    region = bucket.region or session.region_name or environment.get("AWS_REGION") or ("auto" if is_r2 else "us-east-1")
    put_key = [environment.get(name, "") for name in PUT_KEY]
    frozen = credentials.get_frozen_credentials()
    hide(*(text for text in (frozen.secret_key, frozen.token, put_key[1]) if text))

    def client(**key: str) -> Any:
        return session.client("s3", region_name=region, endpoint_url=bucket.endpoint, config=config, **key)

    main = client()
    if not any(put_key):
        return main, main
    if not all(put_key):
        raise SettingsError(f"set both {' and '.join(PUT_KEY)}, or none of them")
    return main, client(aws_access_key_id=put_key[0], aws_secret_access_key=put_key[1])


def code_of(error: Exception) -> str:
    """The store's word for an error; the HTTP status if it gives no word, as for HEAD."""
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code") or response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


@contextmanager
def bucket_errors(bucket: Bucket) -> Iterator[None]:
    """Turns errors of boto3 into `DepotError`, with the bucket's own words and without any signature."""
    core = import_module("botocore.exceptions")
    try:
        yield
    except core.ClientError as error:
        word, said = code_of(error), str(error.response.get("Error", {}).get("Message") or "")[:200]
        text = f"the bucket {bucket.name} answered {error.operation_name} with {word}{said and f': {said}'}"
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        code = "full" if word in _FULL else "denied" if status < 500 and word not in _PASSING else "down"
        raise DepotError(f"{text}; run `wakestream depot check`", code=code) from None
    except core.NoCredentialsError:
        raise DepotError(f"there are no credentials for the bucket {bucket.name}", code="denied") from None
    except core.BotoCoreError as error:
        why = f"no answer of {bucket.endpoint or 'Amazon S3'}: {type(error).__name__}"
        raise DepotError(why, code="down") from None
