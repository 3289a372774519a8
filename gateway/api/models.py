"""The model list, as OpenAI's clients and as Anthropic's expect it."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from gateway.api.operations import Dialect
from gateway.routing.table import ModelRow


class ModelCard(msgspec.Struct, frozen=True):
    id: str
    created: int
    object: str = "model"
    owned_by: str = "modelyard"


class ModelList(msgspec.Struct, frozen=True):
    data: tuple[ModelCard, ...]
    object: str = "list"


class AnthropicCard(msgspec.Struct, frozen=True):
    id: str
    display_name: str
    created_at: str
    type: str = "model"


class AnthropicList(msgspec.Struct, frozen=True):
    """One page: there is never another."""

    data: tuple[AnthropicCard, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool = False


def card(row: ModelRow) -> ModelCard:
    return ModelCard(id=row.name, created=int(row.created_at))


def _anthropic_card(row: ModelRow) -> AnthropicCard:
    created_at = datetime.fromtimestamp(int(row.created_at), UTC)
    return AnthropicCard(
        id=row.name,
        display_name=row.name,
        created_at=created_at.isoformat().replace("+00:00", "Z"),
    )


def render_models(rows: Iterable[ModelRow], dialect: Dialect = Dialect.OPENAI) -> bytes:
    if dialect is not Dialect.ANTHROPIC:
        return msgspec.json.encode(ModelList(tuple(card(row) for row in rows)))
    cards = tuple(_anthropic_card(row) for row in rows)
    return msgspec.json.encode(
        AnthropicList(
            data=cards,
            first_id=cards[0].id if cards else None,
            last_id=cards[-1].id if cards else None,
        )
    )


def render_model(row: ModelRow, dialect: Dialect = Dialect.OPENAI) -> bytes:
    return msgspec.json.encode(_anthropic_card(row) if dialect is Dialect.ANTHROPIC else card(row))
