"""Everything that makes a registry serve the same, as YAML documents and back. Pure.

One document each for quotas, pools, keys and models; the last alone is what `apply` takes. What is
not in it: accounts of people, revisions of before, usage and what keys spent, nodes (they report
themselves), what was measured, and where workers are.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec
import yaml

from registry.errors import SpecError
from registry.explain import explain
from registry.spec import MODELS_PER_FILE_MAX, ModelSpec, document_specs, to_data
from registry.state import AccessRole, Key, KeyKind, KeyLimits, Pool, Priority, Quota
from registry.state.value import Value
from registry.yaml_documents import load_documents

SECTIONS = ("quotas", "pools", "keys", "models")
_DIGEST_BYTES = 32
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # much faster, where PyYAML has it

_Entry = TypeVar("_Entry", bound=msgspec.Struct)


class _Quota(Quota, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class _Pool(Pool, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Limits(KeyLimits, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class _Key(Value, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key with the digests (in hex) of its secrets, which are nowhere; times as in the registry,
    in seconds since the epoch.
    """

    id: str
    name: str
    kind: KeyKind
    digest: str
    created_at: float
    role: AccessRole = AccessRole.ADMIN
    models: tuple[str, ...] = ()
    priority: Priority = Priority.NORMAL
    limits: _Limits = _Limits()
    expires_at: float | None = None
    revoked_at: float | None = None
    old_digest: str | None = None
    old_expires_at: float | None = None


class Export(Value, frozen=True, kw_only=True):
    """*keys* are all of them, ended ones too (a revoked secret must not open anything again), or
    none, where they were not asked for.
    """

    quotas: tuple[Quota, ...] = ()
    pools: tuple[Pool, ...] = ()
    keys: tuple[Key, ...] = ()
    models: tuple[ModelSpec, ...] = ()


def write(export: Export) -> str:
    """The documents that are not empty."""
    sections = {
        "quotas": [_plain(_Quota, quota) for quota in export.quotas],
        "pools": [_plain(_Pool, pool) for pool in export.pools],
        "keys": [msgspec.to_builtins(_exported(key)) for key in export.keys],
        "models": [to_data(spec) for spec in export.models],
    }
    documents = [{name: listed} for name, listed in sections.items() if listed]
    text: str = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _plain(kind: type[_Entry], value: msgspec.Struct) -> Any:
    return msgspec.to_builtins(kind(**msgspec.structs.asdict(value)))


def _exported(key: Key) -> _Key:
    return _Key(
        id=key.id,
        name=key.name,
        kind=key.kind,
        digest=key.digest.hex(),
        created_at=key.created_at,
        role=key.role,
        models=key.models,
        priority=key.priority,
        limits=_Limits(**msgspec.structs.asdict(key.limits)),
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        old_digest=key.old_digest.hex() if key.old_digest is not None else None,
        old_expires_at=key.old_expires_at,
    )


def read(text: str) -> Export:
    """Raises SpecError naming the place, as in ``keys[2].digest``."""
    found: dict[str, list[Any]] = {section: [] for section in SECTIONS}
    for document in load_documents(text):
        if isinstance(document, dict) and document.keys() & set(SECTIONS):
            _take(document, found)
        else:
            found["models"].extend(document_specs(document))
    if not any(found.values()):
        raise SpecError("", "the file declares nothing")
    if len(found["models"]) > MODELS_PER_FILE_MAX:
        raise SpecError("models", f"more than {MODELS_PER_FILE_MAX} are not taken at once")
    made = Export(**{section: tuple(listed) for section, listed in found.items()})
    _check_once("quotas", [quota.owner for quota in made.quotas])
    _check_once("pools", [pool.name for pool in made.pools])
    _check_once("models", [spec.name for spec in made.models])
    _check_once("keys", [key.id for key in made.keys])
    _check_once("keys", [key.digest for key in made.keys])
    return made


def _take(document: dict[str, Any], found: dict[str, list[Any]]) -> None:
    for section, listed in document.items():
        if section not in found:
            allowed = f"allowed are {', '.join(SECTIONS)}"
            raise SpecError(str(section)[:80], f"is not known at the top of a file, {allowed}")
        if section == "models":
            found[section].extend(document_specs({"models": listed}))
        elif not isinstance(listed, list):
            raise SpecError(section, "must be a list")
        else:
            found[section].extend(_entries(section, listed))


def _entries(section: str, listed: list[Any]) -> Iterator[Any]:
    readers: dict[str, Callable[[Any, str], Any]] = {
        "quotas": lambda data, where: Quota(**msgspec.structs.asdict(_as(_Quota, data, where))),
        "pools": lambda data, where: Pool(**msgspec.structs.asdict(_as(_Pool, data, where))),
        "keys": _key,
    }
    for index, data in enumerate(listed):
        yield readers[section](data, f"{section}[{index}]")


def _as(kind: type[_Entry], data: Any, where: str) -> _Entry:
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, ValueError) as error:
        field, message = explain(error, kind, data)
        raise SpecError(f"{where}.{field}".strip("."), message) from None


def _key(data: Any, where: str) -> Key:
    entry = _as(_Key, data, where)
    old = entry.old_digest
    return Key(
        id=entry.id,
        name=entry.name,
        kind=entry.kind,
        digest=_digest(f"{where}.digest", entry.digest),
        role=entry.role,
        models=entry.models,
        priority=entry.priority,
        limits=KeyLimits(**msgspec.structs.asdict(entry.limits)),
        created_at=entry.created_at,
        expires_at=entry.expires_at,
        revoked_at=entry.revoked_at,
        old_digest=_digest(f"{where}.old_digest", old) if old is not None else None,
        old_expires_at=entry.old_expires_at,
    )


def _digest(field: str, text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST_BYTES:
        raise SpecError(field, "allowed are 64 hexadecimal digits, a SHA-256")
    return digest


def _check_once(section: str, names: list[Any]) -> None:
    if len(set(names)) < len(names):
        raise SpecError(section, "has one twice, allowed is each once")
