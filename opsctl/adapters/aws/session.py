"""The AWS session of one environment: read-only or writing, in the verified account, with translated errors."""

from __future__ import annotations

import functools
import os
import threading
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from opsctl import certificates
from opsctl.adapters.aws.failures import REACH, translate
from opsctl.adapters.aws.read_only_guard import guard, reads
from opsctl.adapters.aws.sent import SentAnswer, sent
from opsctl.adapters.loopback import require_loopback
from opsctl.errors import ConfigurationError, CredentialsInvalid, Throttled, WrongPlace
from opsctl.retry import Policy, retry
from opsctl.settings import AwsSettings

CONNECT_SECONDS = 5
READ_SECONDS = 50  # The Data API stops a statement after 45 s.
THROTTLED = Policy(tries=4, deadline=60.0, first=0.5, errors=(Throttled,))

CREATION = "CreateClient"
"""The operation's name while a client is created: nothing is sent yet."""

# The sandbox ignores the user's own AWS set-up; each entry is (config key, variable, default, conversion).
NOBODYS_FILES = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


class Caller(Struct, frozen=True):
    """The caller's identity; `user` is the last part of the ARN."""

    account: str
    arn: str
    user: str

    @property
    def partition(self) -> str:
        """The partition in the account's ARNs: `aws`, `aws-us-gov`, `aws-cn` or another."""
        return self.arn.split(":")[1]


# An access key always belongs to one identity, so it is read once per process.
_callers: dict[tuple[str | None, str], Caller] = {}
_asking = threading.Lock()


@functools.cache
def _loader() -> Any:
    """The loader of service models, shared by all sessions; msgspec decodes them."""
    import gzip

    import msgspec
    from botocore import loaders

    class Files(loaders.JSONFileLoader):  # type: ignore[misc]
        def load_file(self, file_path: str) -> Any:
            for name, plain in ((f"{file_path}.json", bytes), (f"{file_path}.json.gz", gzip.decompress)):
                if os.path.isfile(name):
                    with open(name, "rb") as file:
                        return msgspec.json.decode(plain(file.read()))
            return None

    class Models(loaders.Loader):  # type: ignore[misc]
        def list_available_services(self, type_name: str) -> list[str]:
            """The services by folder name; the SDK would search 400 folders for each type of file."""
            return sorted({name for place in self._potential_locations() for name in os.listdir(place)})

    return Models(file_loader=Files())


def _parse_time(value: Any) -> Any:
    """A time in an answer, parsed as ISO 8601 without the SDK's slow parser, because an answer may have thousands."""
    from botocore.utils import parse_timestamp

    if isinstance(value, str) and "T" in value:
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    return parse_timestamp(value)


class AwsSession:
    """Creates clients and calls them; read-only unless `writing` (raises ReadOnly).

    Thread-safe. In a read-only session the SDK sends a call up to three times; in a writing one once, since an answer may be lost after
    the effect.
    """

    def __init__(self, config: AwsSettings, *, sandbox: bool, writing: bool, proxy: str | None = None) -> None:
        self.config = config
        self.sandbox = sandbox
        self.writing = writing
        self._proxies = {"http": proxy, "https": proxy} if proxy and not sandbox else {}
        self._lock = threading.RLock()
        self._here = threading.local()
        self._clients: dict[tuple[str, str], Any] = {}
        self._proof: Future[None] | None = None
        self._proven = False

    def client(self, service: str, region: str | None = None) -> Any:
        """The botocore client of `service`, in the configured region or another; raises WrongPlace in another account.

        Prefer `call` and `pages`, which translate errors.
        """
        key = (service, region or self.config.region)
        if service == "sts" or self._proven:
            return self._create_client(key)
        proof = self._begin_proof()
        found = self._create_client(key)
        proof.result()
        return found

    def _begin_proof(self) -> Future[None]:
        """Start to verify the account in the background, once for all threads; a failed verification is repeated."""
        with self._lock:
            if self._proof is None or (self._proof.done() and self._proof.exception()):
                # Both are created here, because the thread must not wait for the lock of client creation.
                self._create_client(("sts", self.config.region))
                self._access_key  # noqa: B018
                aside = ThreadPoolExecutor(1, thread_name_prefix="account")
                self._proof = aside.submit(self.verify_account)
                aside.shutdown(wait=False)
            return self._proof

    def call(self, service: str, operation: str, /, *, region: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call `operation` (`describe_services`) and return AWS's answer, or raise one of opsctl's errors.

        A writing session retries a throttled call, which had no effect.
        """
        client = self.client(service, region)
        name = client.meta.method_to_api_mapping[operation]

        def once() -> dict[str, Any]:
            with self.calling(service, name):
                answer: dict[str, Any] = getattr(client, operation)(**parameters)
                return answer

        return retry(once, THROTTLED, sleep=time.sleep) if self.writing else once()

    def call_complete(
        self, service: str, operation: str, /, *, region: str | None = None, **parameters: Any
    ) -> tuple[dict[str, Any], SentAnswer]:
        """As `call`, with the answer as AWS sent it (JSON protocols), to be written back or compared completely.

        The SDK drops every member of an answer that its model doesn't have.
        """
        client = self.client(service, region)
        bodies: list[bytes] = []
        self._here.bodies = bodies
        try:
            answer = self.call(service, operation, region=region, **parameters)
        finally:
            del self._here.bodies
        shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).output_shape
        return answer, sent(bodies[-1], shape)

    def pages(self, service: str, operation: str, /, *, region: str | None = None, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The pages of a read `operation`; raises as `call` does."""
        client = self.client(service, region)
        with self.calling(service, client.meta.method_to_api_mapping[operation]):
            yield from client.get_paginator(operation).paginate(**parameters)

    @contextmanager
    def calling(self, service: str, operation: str) -> Iterator[None]:
        """Translate botocore's exceptions in the block; `operation` is the model's name (`DescribeServices`)."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            yield
        except (BotoCoreError, ClientError, ResponseParserError) as cause:
            effect = self.writing and operation != CREATION and not reads(service, operation)
            reach = f"Fix the AWS profile, or log in: {self.config.login}" if self.sandbox else REACH
            raise translate(cause, effect=effect, service=service, operation=operation, login=self.config.login, reach=reach) from cause

    @property
    def caller(self) -> Caller:
        """The caller's identity, cached; raises CredentialsInvalid without a login."""
        key = (self.config.endpoint, self._access_key)
        with _asking:
            if key not in _callers:
                answer = self.call("sts", "get_caller_identity")
                arn = answer["Arn"]
                _callers[key] = Caller(answer["Account"], arn, arn.rpartition(":")[2].rpartition("/")[2])
            return _callers[key]

    def verify_account(self) -> None:
        """Raise WrongPlace when the caller's account isn't the environment's; cached."""
        if self._proven:
            return
        caller = self.caller
        if caller.account != self.config.account:
            raise WrongPlace(
                f"This login is for AWS account {caller.account} ({caller.user}), but the environment is account"
                f" {self.config.account}; nothing was run.",
                f"Log in to {self.config.account}: {self.config.login}",
            )
        self._proven = True

    def regions(self, service: str) -> set[str]:
        """Every region of every partition in which the installed SDK knows `service`."""
        found = self._botocore
        return {region for partition in found.get_available_partitions() for region in found.get_available_regions(service, partition)}

    def _create_client(self, key: tuple[str, str]) -> Any:
        if key in self._clients:
            return self._clients[key]
        service, region = key
        with self._lock, self.calling(service, CREATION):
            if key not in self._clients:
                made = self._botocore.create_client(service, region_name=region, config=self._settings, **self._where)
                made.meta.events.register("after-call", self._keep_response)
                self._clients[key] = made
            return self._clients[key]

    def _keep_response(self, http_response: Any, **_: Any) -> None:
        """Keep the body of an answer for `call_complete` in this thread."""
        if (bodies := getattr(self._here, "bodies", None)) is not None:
            bodies.append(http_response.content)

    @functools.cached_property
    def _settings(self) -> Any:
        from botocore.config import Config

        plain = {"inject_host_prefix": False, "use_fips_endpoint": False, "use_dualstack_endpoint": False}
        return Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1 if self.writing else 3},
            ignore_configured_endpoint_urls=True,
            proxies=self._proxies,
            **(plain if self.sandbox else {}),
        )

    @functools.cached_property
    def _where(self) -> dict[str, str]:
        """Endpoint and credentials: in the sandbox those of the configuration alone, elsewhere the SDK's own."""
        config = self.config
        given = {
            "endpoint_url": config.endpoint,
            "aws_access_key_id": config.access_key_id,
            "aws_secret_access_key": config.secret_access_key,
        }
        if not self.sandbox:
            if any(given.values()):
                raise ConfigurationError(
                    "[aws] has endpoint, access-key-id or secret-access-key; only a sandbox may have them.", "Remove them."
                )
            return {}
        require_loopback("AWS", urllib.parse.urlsplit(config.endpoint or "").hostname or "")
        if not (config.access_key_id and config.secret_access_key):
            raise ConfigurationError("[aws] of a sandbox needs access-key-id and secret-access-key.", "Add them.")
        return {key: value for key, value in given.items() if value}

    @functools.cached_property
    def _botocore(self) -> Any:
        import botocore.session
        from botocore.config import Config

        session = botocore.session.Session(session_vars=NOBODYS_FILES if self.sandbox else None)
        session.register_component("data_loader", _loader())
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_time)
        session.set_config_variable("region", self.config.region)
        # These also apply to the clients that the SDK creates to log in: no variable or file sets an endpoint, an authority or a
        # proxy.
        session.set_config_variable("ignore_configured_endpoint_urls", True)
        session.set_config_variable("ca_bundle", None if self.sandbox else certificates.authorities(self.config.ca))
        session.set_default_client_config(Config(proxies=self._proxies))
        if not self.writing:
            # A client copies the session's hooks when it is created, so this must come first.
            session.get_component("event_emitter").register_first("before-call", guard)
        return session

    @functools.cached_property
    def _access_key(self) -> str:
        where = self._where
        if "aws_access_key_id" in where:
            return where["aws_access_key_id"]
        with self._lock, self.calling("sts", "GetCallerIdentity"):
            found = self._botocore.get_credentials()
            if found is None:
                raise CredentialsInvalid("There is no AWS login on this machine.", f"Log in: {self.config.login}")
            key: str = found.get_frozen_credentials().access_key
            return key


def utc(time: datetime) -> datetime:
    """The time in UTC; botocore returns local times."""
    return time.astimezone(UTC)
