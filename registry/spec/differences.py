"""What differs between two specs, field by field. Pure.

Defaults are values like any other: a field that is left out differs from one that is given only
where the default does.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from registry.spec.external import ExternalWorker
from registry.spec.model import ModelSpec, Variant

SUMMARY_FIELDS_MAX = 3


class ChangeKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One field that differs. *field* is its path, with variants by their names, as in
    ``variants[default].topology.workers``; *before* and *after* are plain data, None where there
    is nothing.
    """

    kind: ChangeKind
    field: str
    before: Any = None
    after: Any = None


def diff(before: ModelSpec | None, after: ModelSpec) -> tuple[Change, ...]:
    """Empty exactly when the two are equal. *before* is None for a model that is new."""
    return tuple(_new(after) if before is None else _between("", before, after))


def _new(spec: ModelSpec) -> Iterator[Change]:
    data = msgspec.to_builtins(spec)
    del data["variants"]
    yield from _whole(ChangeKind.ADDED, "", data)
    yield from _between_named("variants", (), spec.variants)


def summary_of(changes: tuple[Change, ...]) -> str:
    """A few words for a list: ``variants[default].topology.type, limits.queued and 3 more``."""
    fields = [change.field for change in changes]
    shown = ", ".join(fields[:SUMMARY_FIELDS_MAX])
    more = len(fields) - SUMMARY_FIELDS_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def _between(path: str, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, msgspec.Struct) and isinstance(after, msgspec.Struct):
        yield from _between_structs(path, before, after)
    elif isinstance(before, dict) and isinstance(after, dict):
        yield from _between_mappings(path, before, after)
    elif _is_named(before) and _is_named(after):
        yield from _between_named(path, before, after)
    elif before != after:
        yield from _replaced(path, before, after)


def _between_structs(path: str, before: msgspec.Struct, after: msgspec.Struct) -> Iterator[Change]:
    if type(before) is not type(after):
        # Of another kind: what they call the same need not be the same.
        yield from _between_mappings(path, msgspec.to_builtins(before), msgspec.to_builtins(after))
        return
    for field in msgspec.structs.fields(before):
        place = _join(path, field.name)
        yield from _between(place, getattr(before, field.name), getattr(after, field.name))


def _between_mappings(
    path: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Change]:
    for key in dict.fromkeys((*before, *after)):  # in the order they have
        place = _join(path, key)
        if key not in after:
            yield from _whole(ChangeKind.REMOVED, place, before[key])
        elif key not in before:
            yield from _whole(ChangeKind.ADDED, place, after[key])
        else:
            yield from _between(place, before[key], after[key])


def _is_named(value: Any) -> bool:
    """Whether *value* is a list whose items are told apart by more than their places."""
    return isinstance(value, tuple) and all(isinstance(v, Variant | ExternalWorker) for v in value)


def _between_named(path: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[Change]:
    old = {_name(item): item for item in before}
    new = {_name(item): item for item in after}
    for name, item in old.items():
        place = f"{path}[{name}]"
        if name in new:
            yield from _between(place, item, new[name])
        else:
            yield from _whole(ChangeKind.REMOVED, place, _unnamed(item))
    for name, item in new.items():
        if name not in old:
            yield from _whole(ChangeKind.ADDED, f"{path}[{name}]", _unnamed(item))
    stay = [name for name in old if name in new]
    order = [name for name in new if name in old]
    if stay != order:
        yield Change(kind=ChangeKind.CHANGED, field=path, before=list(old), after=list(new))


def _name(item: Variant | ExternalWorker) -> str:
    return item.name if isinstance(item, Variant) else item.url


def _unnamed(item: Variant | ExternalWorker) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(item)
    data.pop("name" if isinstance(item, Variant) else "url", None)
    return data


def _replaced(path: str, before: Any, after: Any) -> Iterator[Change]:
    if before is None:
        yield from _whole(ChangeKind.ADDED, path, msgspec.to_builtins(after))
    elif after is None:
        yield from _whole(ChangeKind.REMOVED, path, msgspec.to_builtins(before))
    else:
        yield Change(
            kind=ChangeKind.CHANGED,
            field=path,
            before=msgspec.to_builtins(before),
            after=msgspec.to_builtins(after),
        )


def _whole(kind: ChangeKind, path: str, value: Any) -> Iterator[Change]:
    """Everything in plain data that came or went, a line for each value."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _whole(kind, _join(path, key), item)
    elif kind is ChangeKind.ADDED:
        yield Change(kind=kind, field=path, after=value)
    else:
        yield Change(kind=kind, field=path, before=value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
