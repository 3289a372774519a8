"""The listener's small GET pages: health, readiness, the model list."""

import msgspec

from gateway.api.models import render_model, render_models
from gateway.api.operations import Dialect
from gateway.auth import authenticate
from gateway.errors import UnknownModelError
from gateway.readiness import readiness
from gateway.routing.table import RoutingTable

_MODELS = "/v1/models"
_OK, _UNAVAILABLE = 200, 503


def is_page(path: str) -> bool:
    return path in ("/healthz", "/readyz", _MODELS) or path.startswith(_MODELS + "/")


def render_page(
    path: str,
    table: RoutingTable,
    authorization: bytes | None,
    now: float,
    *,
    dialect: Dialect = Dialect.OPENAI,
) -> tuple[int, bytes]:
    """Status and JSON body. Health and readiness need no key; the model list shows what the
    key may use, in the client's *dialect*. Raises ApiError.
    """
    if path == "/healthz":
        return _OK, b'{"status":"ok"}'
    if path == "/readyz":
        state = readiness(table)
        return (_OK if state.ready else _UNAVAILABLE), msgspec.json.encode(state)
    key = authenticate(authorization, table.keys, now)
    if path == _MODELS:
        return _OK, render_models(table.models_of(key), dialect)
    name = path.removeprefix(_MODELS + "/")
    row = table.model(name, key)
    if row is None:
        raise UnknownModelError(name)
    return _OK, render_model(row, dialect)
