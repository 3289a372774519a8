"""Named, versioned engine environments: what they are made of, and those on this node."""

from pipelines.runtimes.definitions import (
    RuntimeDefinition,
    RuntimeUnavailableError,
    parse_requirement,
)
from pipelines.runtimes.installed import Runtimes

__all__ = ["RuntimeDefinition", "RuntimeUnavailableError", "Runtimes", "parse_requirement"]
