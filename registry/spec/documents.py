"""Specs as files: JSON and YAML, in and out. Every error is a SpecError that names the field."""

from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from registry.errors import SpecError
from registry.explain import explain
from registry.spec.model import ModelSpec
from registry.yaml_documents import SPEC_FILE_BYTES_MAX, load_documents

MODELS_PER_FILE_MAX = 10_000
_SECTIONS = frozenset({"quotas", "pools", "keys", "models"})  # of exports, which restore takes
_ALLOWED = "allowed is models (`modelyard restore` takes exports with more in them)"


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
    specs = [spec for document in load_documents(text) for spec in document_specs(document)]
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


def document_specs(document: Any) -> Iterator[ModelSpec]:
    """Of one document: ``models: [...]``, or a spec. Raises SpecError."""
    if not isinstance(document, dict) or not document.keys() & _SECTIONS:
        yield from_data(document)
        return
    for key in document:
        if key != "models":
            raise SpecError(str(key)[:80], f"is not known at the top of a file, {_ALLOWED}")
    if not isinstance(document.get("models"), list):
        raise SpecError("models", "must be a list of model specs")
    for index, data in enumerate(document["models"]):
        yield from_data(data, f"models[{index}]")
