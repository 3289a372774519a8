"""The model spec: the one form that YAML, CLI, console and API share.

Validation happens on construction, so a ModelSpec in hand is a servable one. Every error is a
SpecError that names the field and what is allowed there. Pure: no I/O, no clock.
"""

from registry.errors import SpecError
from registry.spec.checks import NAME_ALLOWED, NAME_PATTERN, is_name, parse_size_bytes
from registry.spec.demand import (
    Autoscale,
    Fallback,
    FallbackOn,
    Idle,
    IdleAction,
    Ratio,
    Slo,
)
from registry.spec.differences import Change, ChangeKind, diff, summary_of
from registry.spec.documents import (
    MODELS_PER_FILE_MAX,
    from_data,
    from_json,
    from_yaml,
    to_data,
    to_json,
    to_yaml,
)
from registry.spec.engines import TRAITS, EngineName, EngineTraits
from registry.spec.external import External, ExternalWorker
from registry.spec.model import (
    LIMIT_MAX,
    VARIANTS_MAX,
    Limits,
    ModelSpec,
    Price,
    Routing,
    RoutingPolicy,
    Sticky,
    Task,
    Variant,
)
from registry.spec.placement import NO_WISHES, Island, Locality, Placement
from registry.spec.rollout import Gate, Promote, RolloutPolicy
from registry.spec.sources import SOURCE_CHARS_MAX, PypiSource, parse_pypi_source
from registry.spec.topology import (
    DEVICE_MEMORY_BYTES_MAX,
    DEVICE_MEMORY_BYTES_MIN,
    DEVICES_PER_WORKER_MAX,
    WORKERS_PER_ROLE_MAX,
    Aggregated,
    Bypass,
    Disaggregated,
    Role,
    RoleSpec,
)

__all__ = [
    "DEVICES_PER_WORKER_MAX",
    "DEVICE_MEMORY_BYTES_MAX",
    "DEVICE_MEMORY_BYTES_MIN",
    "LIMIT_MAX",
    "MODELS_PER_FILE_MAX",
    "NAME_ALLOWED",
    "NAME_PATTERN",
    "NO_WISHES",
    "SOURCE_CHARS_MAX",
    "TRAITS",
    "VARIANTS_MAX",
    "WORKERS_PER_ROLE_MAX",
    "Aggregated",
    "Autoscale",
    "Bypass",
    "Change",
    "ChangeKind",
    "Disaggregated",
    "EngineName",
    "EngineTraits",
    "External",
    "ExternalWorker",
    "Fallback",
    "FallbackOn",
    "Gate",
    "Idle",
    "IdleAction",
    "Island",
    "Limits",
    "Locality",
    "ModelSpec",
    "Placement",
    "Price",
    "Promote",
    "PypiSource",
    "Ratio",
    "Role",
    "RoleSpec",
    "RolloutPolicy",
    "Routing",
    "RoutingPolicy",
    "Slo",
    "SpecError",
    "Sticky",
    "Task",
    "Variant",
    "diff",
    "from_data",
    "from_json",
    "from_yaml",
    "is_name",
    "parse_pypi_source",
    "parse_size_bytes",
    "summary_of",
    "to_data",
    "to_json",
    "to_yaml",
]
