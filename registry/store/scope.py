"""The two kinds of transaction. A write that changed something must say so, or it does not commit.

`Write` counts the tables its connection really wrote to. At the end it asserts an event beside any
change, and an audit row beside any change that a principal asked for.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from sqlalchemy import Connection, TextClause, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from registry import db
from registry import tables as t
from registry.state import EventKind, Principal

MESSAGE_CHARS_MAX = 500
_WRITTEN = "modelyard_written"
_RECORDS = frozenset({t.EventRow.__tablename__, t.AuditRow.__tablename__})


def cut(text: str, chars_max: int = MESSAGE_CHARS_MAX) -> str:
    """*text* in a bounded length, with a mark where something is missing; without NUL, which
    PostgreSQL does not take.
    """
    text = text.replace("\0", "\ufffd")
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


class Write:
    """One write transaction: its session, its time, and what it says of itself."""

    def __init__(self, session: AsyncSession, now: float, by: Principal | None) -> None:
        self.session = session
        self.now = now
        self.by = by
        self.told = 0  # events so far
        self._quiet = ""

    def event(
        self, kind: EventKind, message: str, *, model: str = "", worker: str = "", node: str = ""
    ) -> None:
        self.told += 1
        self.session.add(
            t.EventRow(
                at=self.now,
                kind=kind,
                model=model,
                worker=worker,
                node=node,
                message=cut(message),
            )
        )

    def audit(
        self, action: str, target: str, *, before: int | None = None, after: int | None = None
    ) -> None:
        """*before* and *after* are revision numbers, where the target has some."""
        assert self.by is not None, "only what a principal asks for is audited"
        self.session.add(
            t.AuditRow(
                at=self.now,
                actor=cut(self.by.actor),
                action=action,
                object=cut(target),
                before_revision=before,
                after_revision=after,
                request_id=cut(self.by.request_id),
                client_ip=cut(self.by.client_ip),
            )
        )

    def quiet(self, why: str) -> None:
        """What this writes is no news: nobody has to look again because of it."""
        self._quiet = why

    async def finish(self) -> None:
        """Sends everything to the database and checks that nothing was changed in silence."""
        await self.session.flush()
        connection = await self.session.connection()
        written: set[str] = connection.info[_WRITTEN]
        changed = written - _RECORDS
        assert not changed or self._quiet or t.EventRow.__tablename__ in written, (
            f"{sorted(changed)} changed without an event"
        )
        assert not changed or self.by is None or t.AuditRow.__tablename__ in written, (
            f"{sorted(changed)} changed by {self.by} without an audit row"
        )


class Scopes:
    """Opens transactions. Writes of one process queue here, in order, not at the database."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._writer = db.writer(engine)
        self._clock = clock
        self._queue = asyncio.Lock()
        self._guard: Callable[[Write], Awaitable[None]] | None = None
        event.listen(self._writer.sync_engine, "begin", _forget_written)
        event.listen(self._writer.sync_engine, "before_cursor_execute", _note_written)

    def now(self) -> float:
        return self._clock()

    async def aclose(self) -> None:
        await self._engine.dispose()

    def guarded(self, guard: Callable[["Write"], Awaitable[None]]) -> Self:
        """The same connections; each write begins with *guard*, which may raise."""
        made = copy.copy(self)
        made._guard = guard  # noqa: SLF001 - another one of us
        return made

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """One consistent view. Raises UnavailableError."""
        with db.translated():
            async with AsyncSession(self._engine) as session:
                yield session

    @asynccontextmanager
    async def write(self, by: Principal | None = None) -> AsyncIterator[Write]:
        """Commits at the end, or leaves nothing behind. Raises UnavailableError."""
        async with self._queue:
            with db.translated():
                async with (
                    AsyncSession(self._writer, expire_on_commit=False) as session,
                    session.begin(),
                ):
                    await session.connection()  # it has the write lock now, and its time is of now
                    write = Write(session, self._clock(), by)
                    if self._guard is not None:
                        await self._guard(write)
                    yield write
                    await write.finish()


def _forget_written(connection: Connection) -> None:
    connection.info[_WRITTEN] = set()


def _note_written(
    connection: Connection,
    _cursor: Any,
    _statement: str,
    _parameters: Any,
    context: Any,
    _many: bool,
) -> None:
    compiled = getattr(context, "compiled", None)
    if compiled is None:
        return
    assert not isinstance(compiled.statement, TextClause), "what textual SQL writes is not known"
    if context.isinsert or context.isupdate or context.isdelete:
        connection.info[_WRITTEN].add(compiled.statement.table.name)


class Scoped:
    """What the parts of the store share."""

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes
