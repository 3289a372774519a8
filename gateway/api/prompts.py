"""Where each operation has its prompt, and how long it is."""

from collections.abc import Mapping

import msgspec

from gateway.api.operations import Operation
from pipelines.engines.base import Body

# A token of English text has about four bytes.
BYTES_PER_TOKEN = 4

# In the order in which chat templates put them: what comes first is what prompts have in common.
PROMPT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "chat.completions": ("tools", "messages"),
    "completions": ("prompt",),
    "responses": ("instructions", "tools", "previous_input_messages", "input"),
    "messages": ("tools", "system", "messages"),
    "count_tokens": ("tools", "system", "messages"),
    "embeddings": ("input", "messages"),
    "rerank": ("query", "documents"),
    "score": (
        *("queries", "documents", "items"),
        *("data_1", "data_2", "text_1", "text_2"),
        *("query",),
    ),
    "tokenize": ("tools", "messages", "prompt"),
    "detokenize": ("tokens",),
}
_NO_MEDIA = frozenset({"instructions", "prompt", "tokens", "tools"})
# Media in these is what an engine might fetch: messages wherever they are, of the prompt all but
# text, ids and schemas, in which any name may stand.
MEDIA_FIELDS: Mapping[str, tuple[str, ...]] = {
    name: tuple({"messages": 0, **dict.fromkeys(f for f in fields if f not in _NO_MEDIA)})
    for name, fields in PROMPT_FIELDS.items()
}
_TOKEN_IDS = msgspec.json.Decoder(list[int])
# A list in one of these may be a prompt's token ids.
_MAY_BE_IDS = frozenset({"prompt", "input", "tokens"})
_SEVERAL_PROMPTS = frozenset({"completions"})


def prompt_bytes(body: Body, operation: Operation) -> bytes:
    """The raw JSON of what is to be answered."""
    fields = PROMPT_FIELDS[operation.name]
    return b"".join([bytes(body[name]) for name in fields if name in body])


def prompt_tokens(body: Body, operation: Operation) -> int | None:
    """How long the prompt is: exact for token ids, else an estimate, a quarter of its UTF-8 bytes
    as JSON. None for several prompts that are answered one by one.
    """
    size = 0
    for name in PROMPT_FIELDS[operation.name]:
        raw = body.get(name)
        if raw is None:
            continue
        if name in _MAY_BE_IDS and bytes(raw).startswith(b"["):
            try:
                size += len(_TOKEN_IDS.decode(raw)) * BYTES_PER_TOKEN
                continue
            except msgspec.DecodeError:
                if operation.name in _SEVERAL_PROMPTS:
                    return None
        size += len(memoryview(raw))  # not copied
    return size // BYTES_PER_TOKEN
