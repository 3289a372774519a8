"""What is PostgreSQL's own: how its URL becomes a connection, and which of its errors pass.

TLS is asked for as libpq does it (`?sslmode=verify-full`); certificates come from libpq's
variables (PGSSLROOTCERT and its like) or from `~/.postgresql`.
"""

from typing import Any

from sqlalchemy import URL, Connection, Double, cast, event, extract, func
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError

# What one process holds at most: a writer, and readers beside it. Those who find none wait.
POOL_SIZE = 4
POOL_OVERFLOW = 4
CONNECT_S_MAX = 5
# A process that got SIGSTOP, or whose machine is gone, must not hold the write lock for long.
IDLE_IN_TRANSACTION_S_MAX = 3
# The time as it is now, not as the transaction began.
NOW = cast(extract("epoch", func.clock_timestamp()), Double)
_WRITER_LOCK = 0x6D79  # the advisory lock that stands for SQLite's one writer
# Classes of SQLSTATE: connection, rolled back, resources, intervention by an operator, system.
_PASSING = ("08", "40", "53", "57", "58")
# idle in a transaction for too long; a lock was not to be had in time
_PASSING_STATES = frozenset({"25P03", "55P03"})


def engine_options(busy_timeout_s: float) -> dict[str, Any]:
    """For `create_async_engine`. *busy_timeout_s* is how long a lock or a connection is waited
    for. A connection that died while it lay in the pool is made anew before it is used.
    """
    settings = {
        "application_name": "modelyard",
        "lock_timeout": f"{busy_timeout_s * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S_MAX * 1000}",
    }
    return {
        # Of readers: one view. The pool's own, for an option of an engine would be in force for its
        # writing twin, too, whose snapshot would then be of before it got the lock.
        "isolation_level": "REPEATABLE READ",
        "pool_pre_ping": True,
        "pool_size": POOL_SIZE,
        "max_overflow": POOL_OVERFLOW,
        "pool_timeout": busy_timeout_s,
        "connect_args": {
            "timeout": CONNECT_S_MAX,
            # Of a server that says nothing at all; a lock's own timeout comes first.
            "command_timeout": busy_timeout_s + CONNECT_S_MAX,
            "server_settings": settings,
        },
    }


def address(url: URL) -> URL:
    """*url* as asyncpg wants it."""
    sslmode = url.query.get("sslmode")
    if sslmode is None:
        return url
    return url.difference_update_query(["sslmode"]).update_query_dict({"ssl": sslmode})


def prepare(engine: Engine) -> None:
    event.listen(engine, "handle_error", _hide_details)


def _hide_details(context: ExceptionContext) -> None:
    """The server's DETAIL quotes whole rows, with the tokens in them."""
    error: BaseException | None = context.original_exception
    while error is not None:
        if getattr(error, "detail", None):
            error.detail = None  # type: ignore[attr-defined]
        error = error.__cause__


def lock_writers(connection: Connection) -> None:
    """Held until the transaction ends."""
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")


def may_pass(error: DBAPIError) -> bool:
    """Whether the same call may work later: the server went, or had no room, or no time."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(_PASSING) or state in _PASSING_STATES
