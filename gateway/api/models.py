"""The model list."""

from collections.abc import Iterable

import msgspec

from gateway.routing.table import ModelRow


class ModelCard(msgspec.Struct, frozen=True):
    id: str
    created: int
    object: str = "model"
    owned_by: str = "modelyard"


class ModelList(msgspec.Struct, frozen=True):
    data: tuple[ModelCard, ...]
    object: str = "list"


def card(row: ModelRow) -> ModelCard:
    return ModelCard(id=row.name, created=int(row.created_at))


def render_models(rows: Iterable[ModelRow]) -> bytes:
    return msgspec.json.encode(ModelList(tuple(card(row) for row in rows)))


def render_model(row: ModelRow) -> bytes:
    return msgspec.json.encode(card(row))
