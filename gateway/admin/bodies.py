"""What clients send: one struct per request body, decoded strictly, errors naming the field."""

import re
from datetime import datetime
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec

from gateway.admin.errors import BadRequestError
from registry.errors import SpecError
from registry.explain import SEPARATOR, explain
from registry.spec import WORKERS_PER_ROLE_MAX, ModelSpec, from_data
from registry.state import KeyKind, Priority

BODY_BYTES_MAX = 4 * 1024 * 1024
EXPIRES_IN_S_MAX = 10 * 365 * 86_400
NAME_CHARS_MAX = 64

_Body = TypeVar("_Body", bound=msgspec.Struct)
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ETAG = re.compile(r'"?(\d{1,18})"?')


def _documented_as(**schema: Any) -> msgspec.Meta:
    """For OpenAPI alone: what is allowed is checked in `__post_init__`, with better words."""
    return msgspec.Meta(extra_json_schema=schema)


def _refuse(field: str, message: str) -> NoReturn:
    raise ValueError(f"{field}{SEPARATOR}{message}")


Workers = Annotated[int, _documented_as(minimum=1, maximum=WORKERS_PER_ROLE_MAX)]
ShortName = Annotated[str, _documented_as(minLength=1, maxLength=NAME_CHARS_MAX)]
ModelName = Annotated[str, _documented_as(pattern=f"^{_MODEL_NAME.pattern}$")]
Seconds = Annotated[float, _documented_as(exclusiveMinimum=0, maximum=EXPIRES_IN_S_MAX)]
Time = Annotated[str, _documented_as(format="date-time")]


class ScaleBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New worker counts for one variant (optional where the model has only one): *workers* of an
    aggregated one, *prefill* and *decode* of a disaggregated one.
    """

    variant: str = ""
    workers: Workers | None = None
    prefill: Workers | None = None
    decode: Workers | None = None

    def __post_init__(self) -> None:
        for field in ("workers", "prefill", "decode"):
            value = getattr(self, field)
            if value is not None and not 1 <= value <= WORKERS_PER_ROLE_MAX:
                _refuse(field, f"is {value}, allowed is 1 to {WORKERS_PER_ROLE_MAX}")


class KeyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key. No *models* means all of them. *priority* is that of its requests where a model's
    queue them. Its end is *expires_in_s*, or *expires_at* (ISO
    8601 with its zone), or never.
    """

    name: ShortName
    kind: KeyKind = KeyKind.INFERENCE
    models: tuple[ModelName, ...] = ()
    priority: Priority = Priority.NORMAL
    expires_in_s: Seconds | None = None
    expires_at: Time | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= NAME_CHARS_MAX or not self.name.isprintable():
            _refuse("name", f"allowed are 1 to {NAME_CHARS_MAX} printable characters")
        for index, model in enumerate(self.models):
            if not _MODEL_NAME.fullmatch(model):
                _refuse(f"models[{index}]", f"is {model[:80]!r}, which no model can be named")
        if self.kind is KeyKind.ADMIN and self.models:
            _refuse("models", "an admin key is for all models: leave it out")
        if self.kind is KeyKind.ADMIN and self.priority is not Priority.NORMAL:
            _refuse("priority", "an admin key's requests never queue: leave it out")
        if self.expires_in_s is not None and not 0 < self.expires_in_s <= EXPIRES_IN_S_MAX:
            _refuse("expires_in_s", f"is {self.expires_in_s}, allowed is 1 to {EXPIRES_IN_S_MAX}")
        if self.expires_in_s is not None and self.expires_at is not None:
            _refuse("expires_at", "and expires_in_s are two ways to say it: give one")

    def expiry(self, now: float) -> float | None:
        """Seconds since the epoch. Raises SpecError for a time that is none, or past."""
        if self.expires_in_s is not None:
            return now + self.expires_in_s
        if self.expires_at is None:
            return None
        at = _timestamp("expires_at", self.expires_at)
        if not now < at <= now + EXPIRES_IN_S_MAX:
            raise SpecError("expires_at", "allowed is a time in the next ten years")
        return at


def _timestamp(field: str, text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SpecError(field, f"is {text[:40]!r}, allowed is a time as in 2026-01-31T12:00:00Z")
    return moment.timestamp()


def decode(body: bytes, kind: type[_Body]) -> _Body:
    """Raises BadRequestError for what is not JSON, SpecError for JSON that does not fit."""
    data = _parse(body)
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise SpecError(*explain(error, kind, data)) from None


def decode_spec(body: bytes, *, name: str | None) -> ModelSpec:
    """A model spec whose name is the one in the path, where there is one."""
    spec = from_data(_parse(body))
    if name is not None and spec.name != name:
        raise SpecError("name", f"is {spec.name!r}, but the path says {name[:80]!r}")
    return spec


def _parse(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from None


def parse_if_match(header: str | None) -> int | None:
    """The generation an If-Match header names. Raises BadRequestError."""
    if header is None:
        return None
    match = _ETAG.fullmatch(header.strip())
    if match is None:
        raise BadRequestError(
            'If-Match: allowed is one generation as the ETag gave it, as in "7"', field="If-Match"
        )
    return int(match[1])


def parse_create_only(header: str | None) -> bool:
    """Whether If-None-Match asks for creation only. Raises BadRequestError."""
    if header is not None and header.strip() != "*":
        raise BadRequestError("If-None-Match: allowed is only *", field="If-None-Match")
    return header is not None
