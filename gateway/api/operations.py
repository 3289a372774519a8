"""What clients may ask for: an explicit list of paths. Everything that is not here is a 404.

A request goes to the engine's own route of the same name, unharmed but for what the gateway sets.
Which engine answers what is its adapter's word (`pipelines.engines.base.Engine.operations`).
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Dialect(StrEnum):
    """Whose forms an operation has: of its errors, of its stream's events, of its usage."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """*path* is the engines' own, *aliases* are others for the same. *generates* says whether
    tokens are made, *streams* whether they may come one by one. What is not *metered* leaves no
    usage record: it costs no tokens. One that is *optional* an engine may lack and be well: its 404
    is the client's to hear, and nothing against the worker.
    """

    name: str
    path: str
    aliases: tuple[str, ...] = ()
    dialect: Dialect = Dialect.OPENAI
    generates: bool = False
    streams: bool = False
    metered: bool = True
    optional: bool = True

    @property
    def resumes(self) -> bool:
        """Whether a stream that breaks off may be gone on with: it is text, and no more."""
        return self.streams and self.dialect is Dialect.OPENAI


CHAT = Operation(
    name="chat.completions",
    path="/v1/chat/completions",
    generates=True,
    streams=True,
    optional=False,
)
COMPLETIONS = Operation(
    name="completions", path="/v1/completions", generates=True, streams=True, optional=False
)
RESPONSES = Operation(
    name="responses",
    path="/v1/responses",
    dialect=Dialect.RESPONSES,
    generates=True,
    streams=True,
)
MESSAGES = Operation(
    name="messages",
    path="/v1/messages",
    dialect=Dialect.ANTHROPIC,
    generates=True,
    streams=True,
)
COUNT_TOKENS = Operation(
    name="count_tokens",
    path="/v1/messages/count_tokens",
    dialect=Dialect.ANTHROPIC,
    metered=False,
)
EMBEDDINGS = Operation(name="embeddings", path="/v1/embeddings", optional=False)
RERANK = Operation(name="rerank", path="/v1/rerank", aliases=("/rerank", "/v2/rerank"))
SCORE = Operation(name="score", path="/v1/score", aliases=("/score",))
TOKENIZE = Operation(name="tokenize", path="/tokenize", metered=False)
DETOKENIZE = Operation(name="detokenize", path="/detokenize", metered=False)

# By name, in the order in which they are shown.
BY_NAME: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        CHAT,
        COMPLETIONS,
        RESPONSES,
        MESSAGES,
        COUNT_TOKENS,
        EMBEDDINGS,
        RERANK,
        SCORE,
        TOKENIZE,
        DETOKENIZE,
    )
}
OPERATIONS: Mapping[str, Operation] = {
    path: operation
    for operation in BY_NAME.values()
    for path in (operation.path, *operation.aliases)
}


def shown(names: frozenset[str]) -> str:
    """These operations as a client would ask for them."""
    return ", ".join(f"POST {op.path}" for name, op in BY_NAME.items() if name in names)


def dialect_of(path: str, *, anthropic: bool) -> Dialect:
    """In what form to answer on *path*, whatever is there. *anthropic*: the client says that it
    speaks Anthropic's.
    """
    operation = OPERATIONS.get(path)
    if operation is not None:
        return operation.dialect
    if anthropic or path.startswith(MESSAGES.path):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI
