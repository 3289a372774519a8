"""The admin API from the client's side: requests out, answers or CliErrors back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import quote

import httpx
import msgspec

from registry.cli.exits import (
    CliError,
    MissingError,
    RefusedError,
    StaleError,
    UnreachableError,
)

_ERRORS: Mapping[int, type[CliError]] = {404: MissingError, 409: StaleError, 412: StaleError}
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_FOLLOW_TIMEOUT = httpx.Timeout(5.0, read=None)

_JSON = msgspec.json.Encoder(decimal_format="number")

Param = str | int | bool | list[str] | None
Params = Mapping[str, Param]


class _Fault(msgspec.Struct):
    message: str
    code: str = ""
    field: str = ""


class _Envelope(msgspec.Struct):
    error: _Fault


class Answer(msgspec.Struct, frozen=True):
    """*raw* is the body as it came; *data* the same, parsed."""

    status: int
    raw: bytes
    data: Any


class Api:
    """One connection to the gateway at *url*. Every method raises CliError."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._client = httpx.Client(
                base_url=self.url + "/admin/v1",
                headers={"authorization": f"Bearer {token}"},
                timeout=_TIMEOUT,
                trust_env=False,
                follow_redirects=False,
            )
        except httpx.InvalidURL as error:
            raise RefusedError(f"{url!r} is no URL: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def get(self, path: str, **params: Param) -> Answer:
        return self._call("GET", path, params=params)

    def put(self, path: str, content: bytes, headers: Mapping[str, str], **params: Param) -> Answer:
        return self._call("PUT", path, content=content, headers=headers, params=params)

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **params: Param,
    ) -> Answer:
        content = _JSON.encode(body) if body else b""
        return self._call("POST", path, content=content, headers=headers, params=params)

    def send_yaml(self, path: str, text: str, **params: Param) -> Answer:
        headers = {"content-type": "application/yaml"}
        return self._call("POST", path, content=text.encode(), headers=headers, params=params)

    def patch(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str], **params: Param
    ) -> Answer:
        return self._call("PATCH", path, content=_JSON.encode(body), headers=headers, params=params)

    def delete(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self._call("DELETE", path, headers=headers)

    @contextmanager
    def stream(self, path: str, *, follow: bool, **params: Param) -> Iterator[httpx.Response]:
        """An answer to be read as it comes; *follow* waits for more without a limit."""
        timeout = _FOLLOW_TIMEOUT if follow else _TIMEOUT
        query = _given({**params, "follow": follow})
        with (
            self._translated(),
            self._client.stream("GET", path, params=query, timeout=timeout) as response,
        ):
            if response.is_error:
                self._refuse(response.status_code, response.read())
            yield response

    @contextmanager
    def post_stream(self, path: str, body: Mapping[str, Any]) -> Iterator[httpx.Response]:
        """The same of what is asked to be done: it takes as long as it takes."""
        content, headers = _JSON.encode(body), {"content-type": "application/json"}
        with (
            self._translated(),
            self._client.stream(
                "POST", path, content=content, headers=headers, timeout=_FOLLOW_TIMEOUT
            ) as response,
        ):
            if response.is_error:
                self._refuse(response.status_code, response.read())
            yield response

    def _call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Params | None = None,
    ) -> Answer:
        headers = {**({"content-type": "application/json"} if content else {}), **(headers or {})}
        with self._translated():
            response = self._client.request(
                method, path, content=content, headers=headers, params=_given(params or {})
            )
        if response.is_error:
            self._refuse(response.status_code, response.content)
        try:
            data = msgspec.json.decode(response.content)
        except msgspec.DecodeError:
            self._refuse(response.status_code, response.content)
        return Answer(response.status_code, response.content, data)

    def _refuse(self, status: int, body: bytes) -> NoReturn:
        try:
            fault = msgspec.json.decode(body, type=_Envelope).error
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RefusedError(
                f"{self.url} answered {status}, but not as a Modelyard admin API: is it the "
                "admin address (by default port 8001)?"
            ) from None
        raise _ERRORS.get(status, RefusedError)(fault.message)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.UnsupportedProtocol:
            raise RefusedError(
                f"{self.url!r} is no address, allowed is http://host:port or https://host:port"
            ) from None
        except httpx.ConnectError as error:
            raise UnreachableError(
                f"cannot reach the gateway at {self.url} ({error}): start it with `modelyard up`, "
                "or say where it runs with --admin-url or MODELYARD_ADMIN_URL"
            ) from None
        except (httpx.TransportError, httpx.StreamError) as error:
            raise UnreachableError(
                f"the gateway at {self.url} did not finish its answer "
                f"({type(error).__name__}): is `modelyard up` still running?"
            ) from None


def path(*parts: str) -> str:
    """A path whose parts are names from the command line: nothing in them becomes syntax."""
    return "/" + "/".join(_segment(part) for part in parts)


def _segment(part: str) -> str:
    # Dots alone would be taken as a relative path by HTTP clients; nothing has such a name.
    if part in {"", ".", ".."}:
        raise MissingError(f"nothing is named {part!r}")
    return quote(part, safe=":")


def _given(params: Params) -> dict[str, str | list[str]]:
    """Only what was given, booleans as the API spells them."""
    return {
        name: value if isinstance(value, list) else _spelled(value)
        for name, value in params.items()
        if value is not None and value is not False
    }


def _spelled(value: str | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
