"""The model spec: the one form that YAML, CLI, console and API share.

Validation happens on construction, so a ModelSpec in hand is a servable one. Every error is a
SpecError that names the field and what is allowed there. Pure: no I/O, no clock.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Literal, NoReturn

import msgspec
import yaml

from registry.errors import SpecError

MODELS_PER_FILE_MAX = 10_000
SPEC_FILE_BYTES_MAX = 4 * 1024 * 1024
WORKERS_PER_ROLE_MAX = 1024
DEVICES_PER_WORKER_MAX = 64

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")
_RUNTIME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_ARG = re.compile(r"[a-z][a-z0-9-]{0,63}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|TiB|KB|MB|GB|TB)?")
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
    r"pypi://(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!]+)#(?P<path>[\w./-]+)"
)

# What Modelyard itself sets on the engine's command line; a spec that also set it would
# contradict the scheduler (devices, memory, addresses) or open the engine to others.
RESERVED_ARGS = frozenset(
    {
        "allowed-origins",
        "api-key",
        "device",
        "disaggregation-bootstrap-port",
        "disaggregation-mode",
        "gpu-memory-utilization",
        "host",
        "kv-transfer-config",
        "load-format",
        "middleware",
        "model",
        "model-path",
        "pipeline-parallel-size",
        "port",
        "root-path",
        "served-model-name",
        "ssl-certfile",
        "ssl-keyfile",
        "tensor-parallel-size",
        "tool-parser-plugin",
        "trust-remote-code",
        "uds",
        "worker-cls",
        "worker-extension-cls",
    }
)

Arg = str | int | float | bool


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
    # msgspec turns a ValueError of __post_init__ into its own error with the outer path; the
    # separator lets `_as_spec_error` join the two paths again.
    raise ValueError(f"{field}\x1f{message}")


def _check_range(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        _refuse(field, f"is {value}, allowed is {low} to {high}")


def parse_size_bytes(text: str) -> int:
    """``"4GiB"`` → bytes. Raises ValueError with the allowed form."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"is {text!r}, allowed is a number with a unit, as in 4GiB or 512MiB")
    return int(float(match[1]) * _SIZE_FACTOR[match[2]])


class _Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    pass


class RoleSpec(_Strict, kw_only=True):
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
            if size < 2**26:
                _refuse("memory", f"is {self.memory!r}, allowed is 64MiB or more")
        for name in self.args:
            _check_arg(name)

    @property
    def memory_bytes(self) -> int:
        """Bytes of each device; 0 means the whole device."""
        return parse_size_bytes(self.memory) if self.memory else 0


def _check_arg(name: str) -> None:
    if not _ARG.fullmatch(name):
        _refuse(f"args.{name}", "allowed is a flag in lower case without its dashes")
    if name in RESERVED_ARGS:
        _refuse(f"args.{name}", "is set by Modelyard itself and cannot be given")


class Bypass(_Strict, kw_only=True):
    """Prompts of fewer tokens than *max_prompt_tokens* skip prefill; 0 switches bypass off."""

    max_prompt_tokens: int = 0

    def __post_init__(self) -> None:
        _check_range("max_prompt_tokens", self.max_prompt_tokens, 0, 10_000_000)


class Aggregated(RoleSpec, tag="aggregated", tag_field="type", kw_only=True):
    """*workers* that each do both phases."""

    def roles(self) -> Iterator[tuple[Role, RoleSpec]]:
        yield Role.UNIFIED, self


class Disaggregated(_Strict, tag="disaggregated", tag_field="type", kw_only=True):
    """Prefill and decode apart, x workers to y, each role with its own devices and flags."""

    prefill: RoleSpec
    decode: RoleSpec
    transfer: Literal["nixl"] = "nixl"
    bypass: Bypass = Bypass()

    def roles(self) -> Iterator[tuple[Role, RoleSpec]]:
        yield Role.PREFILL, self.prefill
        yield Role.DECODE, self.decode


class Placement(_Strict, kw_only=True):
    """Wishes about where: node *labels* that must match, a *device_model* that must be part of
    the device's name (``H100``)."""

    labels: dict[str, str] = {}
    device_model: str = ""

    def __post_init__(self) -> None:
        for key, value in self.labels.items():
            if not _LABEL.fullmatch(key):
                _refuse(f"labels.{key}", "allowed are letters, digits, '.', '_', '/', '-'")
            if len(value) > 128:
                _refuse(f"labels.{key}", "allowed are 128 characters at most")


class Variant(_Strict, kw_only=True):
    """One way to serve the model. *weight* is its share of the traffic; *runtime* the named
    engine environment (empty: the engine's default on the node's kind of device)."""

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
            _refuse("runtime", f"is {self.runtime!r}, allowed is a name as in vllm-cpu-0.32.0")


class Routing(_Strict, kw_only=True):
    policy: RoutingPolicy = RoutingPolicy.LEAST_LOADED


class Limits(_Strict, kw_only=True):
    """Per request. Times in seconds: to a connection, to the first token, between two tokens,
    and for the whole answer. *retry_after_s* is what a 503 tells the client to wait."""

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


class ModelSpec(_Strict, kw_only=True):
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
        _check_range("variants", len(self.variants), 1, 32)
        names = [variant.name for variant in self.variants]
        for name in names:
            if names.count(name) > 1:
                _refuse("variants", f"has {name!r} twice, allowed is each name once")
        if not any(variant.weight for variant in self.variants):
            _refuse("variants", "all have weight 0, at least one must take traffic")


def _check_name(field: str, value: str) -> None:
    if not _NAME.fullmatch(value) or ".." in value:
        _refuse(
            field,
            f"is {value[:80]!r}, allowed are 1 to 64 letters, digits, '.', '_', '-', "
            "beginning and ending with a letter or digit, without '..'",
        )


def _check_source(source: str) -> None:
    kind, _, rest = source.partition("://")
    good = {
        "hf": _HF.fullmatch(source) is not None,
        "pypi": _PYPI.fullmatch(source) is not None,
        "file": rest.startswith("/") and "\0" not in rest,
    }.get(kind, False)
    if not good or ".." in rest.split("/"):
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


def _as_spec_error(error: Exception, where: str = "") -> SpecError:
    message, _, path = str(error).partition(" - at `$")
    path = path.removesuffix("`").removeprefix(".")
    field, separator, rest = message.partition("\x1f")
    if separator:
        path, message = f"{path}.{field}".removeprefix("."), rest
    path = path.replace("[...]", "")
    path = f"{where}.{path}".strip(".") if where else path
    return SpecError(path, message.removeprefix("Object "))


def from_data(data: Any, where: str = "") -> ModelSpec:
    """Builds a spec from plain data (parsed JSON or YAML). Raises SpecError."""
    if not isinstance(data, dict):
        raise SpecError(where, f"is {type(data).__name__}, allowed is a mapping with name, …")
    try:
        return msgspec.convert(data, ModelSpec)
    except (msgspec.ValidationError, ValueError) as error:
        raise _as_spec_error(error, where) from None


def from_json(data: bytes | str) -> ModelSpec:
    """Raises SpecError, for malformed JSON too."""
    try:
        return msgspec.json.decode(data, type=ModelSpec)
    except (msgspec.DecodeError, ValueError) as error:
        raise _as_spec_error(error) from None


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
    if len(text) > SPEC_FILE_BYTES_MAX:
        raise SpecError("", f"the file is over {SPEC_FILE_BYTES_MAX} bytes")
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError("", f"not valid YAML: {error}") from None
    specs: list[ModelSpec] = []
    for document in documents:
        specs.extend(_document_specs(document))
    if not specs:
        raise SpecError("", "the file declares no model")
    if len(specs) > MODELS_PER_FILE_MAX:
        raise SpecError("models", f"{len(specs)} in one file, allowed are {MODELS_PER_FILE_MAX}")
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SpecError("models", f"has {twice!r} twice, allowed is each name once")
    return tuple(specs)


def _document_specs(document: Any) -> Iterator[ModelSpec]:
    if not isinstance(document, dict) or "models" not in document:
        yield from_data(document)
        return
    for key in document:
        if key != "models":
            raise SpecError(str(key), "is not known at the top of a file, allowed is models")
    if not isinstance(document["models"], list):
        raise SpecError("models", "must be a list of model specs")
    for index, data in enumerate(document["models"]):
        yield from_data(data, f"models[{index}]")
