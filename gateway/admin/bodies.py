"""What clients send: one struct per request body, decoded strictly, errors naming the field."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from gateway.admin.errors import BadRequestError
from pipelines.planner.demand import Objective
from pipelines.planner.fleet import Fleet
from pipelines.planner.inputs import Traffic
from registry.errors import SpecError
from registry.explain import explain
from registry.spec import (
    LIMIT_MAX,
    MODELS_PER_FILE_MAX,
    NAME_PATTERN,
    WORKERS_PER_ROLE_MAX,
    ModelSpec,
    from_data,
    parse_size_bytes,
)
from registry.spec.checks import refuse
from registry.state import NANO, AccessRole, BudgetPeriod, KeyKind, Pool, Priority, Quota
from registry.store.keys import (
    BUDGET_NANO_MAX,
    NAME_CHARS_MAX,
    OVERLAP_S_MAX,
    KeyChange,
    KeyLimitsChange,
)
from registry.store.pools import AWAKE_MIN_S_MAX, OVERCOMMIT_MAX
from registry.store.quotas import DEVICES_MAX

BODY_BYTES_MAX = 4 * 1024 * 1024
EXPIRES_IN_S_MAX = 10 * 365 * 86_400
AMOUNT_MAX = BUDGET_NANO_MAX // NANO

_Body = TypeVar("_Body", bound=msgspec.Struct)
_Given = TypeVar("_Given")
_NANO_DECIMALS = 9
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_PLAIN = msgspec.json.Decoder()
_EXACT = msgspec.json.Decoder(float_hook=Decimal)  # amounts of money are what was written
_ETAG = re.compile(r'"?(\d{1,18})"?')


def documented_as(**schema: Any) -> msgspec.Meta:
    """For OpenAPI alone: it is checked in `__post_init__` or in the store, with better words."""
    return msgspec.Meta(extra_json_schema=schema)


Workers = Annotated[int, documented_as(minimum=1, maximum=WORKERS_PER_ROLE_MAX)]
ShortName = Annotated[str, documented_as(minLength=1, maxLength=NAME_CHARS_MAX)]
ModelName = Annotated[str, documented_as(pattern=f"^{NAME_PATTERN}$")]
Seconds = Annotated[float, documented_as(exclusiveMinimum=0, maximum=EXPIRES_IN_S_MAX)]
Time = Annotated[str, documented_as(format="date-time")]
Count = Annotated[int, documented_as(minimum=0, maximum=LIMIT_MAX)]
Devices = Annotated[int, documented_as(minimum=0, maximum=DEVICES_MAX)]
Size = Annotated[str, documented_as(examples=["640GiB"])]
Overcommit = Annotated[float, documented_as(minimum=1, maximum=OVERCOMMIT_MAX)]
AwakeSeconds = Annotated[float, documented_as(minimum=0, maximum=AWAKE_MIN_S_MAX)]
Amount = Annotated[Decimal, documented_as(minimum=0, maximum=AMOUNT_MAX)]


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
                refuse(field, f"is {value}, allowed is 1 to {WORKERS_PER_ROLE_MAX}")


class PlanBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Specs as if they were applied; each model once. None: the present state."""

    models: tuple[ModelSpec, ...] = ()


class RecommendationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to plan for: *traffic* on *fleet*, or on the nodes that are there, best in *objective*.
    The same *seed*, the same plan.
    """

    traffic: Traffic
    fleet: Fleet | None = None
    objective: Objective = Objective.GOODPUT
    seed: int = 0


class QuotaBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an owner's workers may hold at once: *devices*, and *memory* of them, as in ``640GiB``.
    One of both may be null, or left out: no limit.
    """

    devices: Devices | None = None
    memory: Size | None = None

    def __post_init__(self) -> None:
        if self.devices is None and self.memory is None:
            refuse("devices", "and memory are both without a limit: delete the quota instead")

    def quota(self, owner: str) -> Quota:
        """Raises SpecError for a size that is none."""
        return Quota(owner=owner, devices=self.devices, memory_bytes=self._memory_bytes())

    def _memory_bytes(self) -> int | None:
        if self.memory is None:
            return None
        try:
            return parse_size_bytes(self.memory)
        except ValueError as error:
            raise SpecError("memory", str(error)) from None


class PoolBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a pool's models share devices: placed up to *overcommit* times what fits awake, each
    awake for *awake_min_s* at least.
    """

    overcommit: Overcommit = 4.0
    awake_min_s: AwakeSeconds = 30.0

    def pool(self, name: str) -> Pool:
        return Pool(name=name, overcommit=self.overcommit, awake_min_s=self.awake_min_s)


class BudgetBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be spent in a *period*: *amount* in your currency, with nine decimals at most."""

    amount: Amount
    period: BudgetPeriod = BudgetPeriod.MONTH

    def __post_init__(self) -> None:
        exponent = self.amount.as_tuple().exponent
        if not isinstance(exponent, int) or not 0 <= self.amount <= AMOUNT_MAX:
            refuse("amount", f"allowed is 0 (none) to {AMOUNT_MAX}")
        if exponent < -_NANO_DECIMALS:
            refuse("amount", f"allowed are at most {_NANO_DECIMALS} decimals")

    @property
    def nano(self) -> int:
        return int(self.amount.scaleb(_NANO_DECIMALS))


class KeyLimitsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key may use, over all gateway processes; 0 or null is no limit. *tokens_per_minute*
    are prompt and answer together, *in_flight* requests at once.
    """

    requests_per_minute: Count | UnsetType | None = UNSET
    tokens_per_minute: Count | UnsetType | None = UNSET
    in_flight: Count | UnsetType | None = UNSET
    budget: BudgetBody | UnsetType | None = UNSET

    def change(self) -> KeyLimitsChange:
        budget = self.budget
        period = budget.period if isinstance(budget, BudgetBody) else UNSET
        return KeyLimitsChange(
            requests_per_minute=_none_is_0(self.requests_per_minute),
            tokens_per_minute=_none_is_0(self.tokens_per_minute),
            in_flight=_none_is_0(self.in_flight),
            budget_nano=budget.nano if isinstance(budget, BudgetBody) else _none_is_0(budget),
            budget_period=period,
        )


def _none_is_0(value: int | UnsetType | None) -> int | UnsetType:
    return 0 if value is None else value


class KeyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key. *role* is what an admin key may do. No *models* means all of them. *priority* is
    that of its requests where a model's queue them. Its end is *expires_in_s*, or *expires_at* (ISO
    8601 with its zone), or never.
    """

    name: ShortName
    kind: KeyKind = KeyKind.INFERENCE
    role: AccessRole = AccessRole.ADMIN
    models: tuple[ModelName, ...] = ()
    priority: Priority = Priority.NORMAL
    limits: KeyLimitsBody = KeyLimitsBody()
    expires_in_s: Seconds | None = None
    expires_at: Time | None = None

    def __post_init__(self) -> None:
        _check_expiry(self.expires_in_s, self.expires_at)

    def expiry(self, now: float) -> float | None:
        """Seconds since the epoch. Raises SpecError for a time that is none, or past."""
        return _expiry(self.expires_in_s, self.expires_at, now)


class KeyPatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a key is to be otherwise; what is left out stays. A limit of 0 or null is lifted, an
    *expires_at* of null is never.
    """

    name: ShortName | UnsetType = UNSET
    models: tuple[ModelName, ...] | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    limits: KeyLimitsBody | UnsetType = UNSET
    expires_in_s: Seconds | UnsetType = UNSET
    expires_at: Time | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        _check_expiry(_unset_is_none(self.expires_in_s), _unset_is_none(self.expires_at))

    def change(self, now: float) -> KeyChange:
        """Raises SpecError for an end that is none, or past."""
        ends = _unset_is_none(self.expires_in_s), _unset_is_none(self.expires_at)
        stays = self.expires_in_s is UNSET and self.expires_at is UNSET
        return KeyChange(
            name=self.name,
            models=self.models,
            priority=self.priority,
            limits=UNSET if isinstance(self.limits, UnsetType) else self.limits.change(),
            expires_at=UNSET if stays else _expiry(*ends, now),
        )


class RotateBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long the secret of before stays good beside the new one; 0 ends it at once."""

    overlap_s: Annotated[float, documented_as(minimum=0, maximum=OVERLAP_S_MAX)]


def _unset_is_none(value: _Given | UnsetType | None) -> _Given | None:
    return None if isinstance(value, UnsetType) else value


def _check_expiry(expires_in_s: float | None, expires_at: str | None) -> None:
    if expires_in_s is not None and not 0 < expires_in_s <= EXPIRES_IN_S_MAX:
        refuse("expires_in_s", f"is {expires_in_s}, allowed is 1 to {EXPIRES_IN_S_MAX}")
    if expires_in_s is not None and expires_at is not None:
        refuse("expires_at", "and expires_in_s are two ways to say it: give one")


def _expiry(expires_in_s: float | None, expires_at: str | None, now: float) -> float | None:
    if expires_in_s is not None:
        return now + expires_in_s
    if expires_at is None:
        return None
    at = _timestamp("expires_at", expires_at)
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


def query_time(field: str, text: str | None) -> float | None:
    """A day (in UTC) or a time of a query, in seconds since the epoch. Raises BadRequestError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if _DATE.fullmatch(text):
            moment = moment.replace(tzinfo=UTC)
        if moment.tzinfo is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    allowed = "allowed is a day as in 2026-01-31, or a time as in 2026-01-31T12:00:00Z"
    raise BadRequestError(f"{field}: is {text[:40]!r}, {allowed}", field=field)


def decode(body: bytes, kind: type[_Body]) -> _Body:
    """Raises BadRequestError for what is not JSON, SpecError for JSON that does not fit."""
    data = _parse(body, _EXACT)
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise SpecError(*explain(error, kind, data)) from None


def decode_optional(body: bytes, kind: type[_Body]) -> _Body:
    """As `decode`; nothing at all is all by default."""
    return decode(body if body.strip() else b"{}", kind)


def decode_spec(body: bytes, *, name: str | None) -> ModelSpec:
    """A model spec whose name is the one in the path, where there is one."""
    spec = from_data(_parse(body))
    if name is not None and spec.name != name:
        raise SpecError("name", f"is {spec.name!r}, but the path says {name[:80]!r}")
    return spec


def decode_plan(body: bytes) -> tuple[ModelSpec, ...]:
    """The specs of a `PlanBody`, which may be empty. Raises SpecError naming ``models[i]…``."""
    data = _parse(body) if body.strip() else {}
    if not isinstance(data, dict):
        raise SpecError("", "allowed is a mapping of models")
    for field in data.keys() - {"models"}:
        raise SpecError(str(field)[:80], "is not known here, allowed are models")
    given = data.get("models", [])
    if not isinstance(given, list) or len(given) > MODELS_PER_FILE_MAX:
        raise SpecError("models", f"allowed is a list of at most {MODELS_PER_FILE_MAX} specs")
    found: dict[str, ModelSpec] = {}
    for index, item in enumerate(given):
        spec = from_data(item, f"models[{index}]")
        if spec.name in found:
            raise SpecError(f"models[{index}].name", f"is {spec.name!r}, which is there twice")
        found[spec.name] = spec
    return tuple(found.values())


def _parse(body: bytes, decoder: msgspec.json.Decoder[Any] = _PLAIN) -> Any:
    try:
        return decoder.decode(body)
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
