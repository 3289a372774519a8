"""What a request asks of its workers, as far as the choice of them needs to know."""

from collections.abc import Callable, Mapping

from gateway.routing.blocks import BLOCK_BYTES, Key, byte_blocks, token_blocks
from gateway.routing.table import VariantRow
from registry.spec import RoutingPolicy

BYTES_PER_TOKEN = 4  # of English text
# 131,072 tokens in vLLM's blocks of 16; an engine with blocks of one token is matched by fewer.
TOKEN_BLOCKS_MAX = 8192


class Ask:
    """Made once for each request, asked again for each try.

    *prompt* is the raw JSON of `messages` or `prompt`, *prompt_tokens* an estimate of its length
    (None: several prompts), *session* what the client calls its conversation, or empty, *key_id*
    whose request it is.
    *operation* is what is asked for; where nothing *generates* half of a pair is enough.
    *token_ids* are the prompt's, once an engine has been asked for them; only `kv_events` needs
    them. What the last route found is kept for `enter`: the model's *policy*, and *cached_tokens*,
    how much of the prompt each worker need not compute.
    """

    __slots__ = (
        "_blocks",
        "_token_blocks",
        "cached_tokens",
        "fits_pair",
        "generates",
        "key_id",
        "operation",
        "policy",
        "prompt",
        "prompt_tokens",
        "session",
        "token_ids",
        "tokens",
    )

    def __init__(
        self,
        *,
        prompt: bytes,
        prompt_tokens: int | None,
        fits_pair: Callable[[VariantRow], bool],
        session: str = "",
        key_id: str = "",
        operation: str = "chat.completions",
        generates: bool = True,
    ) -> None:
        self.prompt = prompt
        self.prompt_tokens = prompt_tokens
        self.fits_pair = fits_pair
        self.session = session
        self.key_id = key_id
        self.operation = operation
        self.generates = generates
        self.token_ids: tuple[int, ...] | None = None
        self.policy = RoutingPolicy.ROUND_ROBIN
        self.cached_tokens: Mapping[str, int] | None = None
        # What it counts for in a worker's load: never nothing.
        self.tokens = (
            len(prompt) // BYTES_PER_TOKEN if prompt_tokens is None else prompt_tokens
        ) or 1
        self._blocks: tuple[Key, ...] | None = None
        self._token_blocks: dict[int, tuple[Key, ...]] = {}

    @property
    def blocks(self) -> tuple[Key, ...]:
        """The keys of the prompt's blocks."""
        if self._blocks is None:
            self._blocks = byte_blocks(self.prompt)
        return self._blocks

    @property
    def tokens_per_block(self) -> float:
        """By the prompt's own measure: its tokens spread evenly over its bytes."""
        return self.tokens * BLOCK_BYTES / max(1, len(self.prompt))

    def token_blocks(self, block_size: int) -> tuple[Key, ...]:
        """The keys of the blocks of *token_ids*."""
        assert self.token_ids is not None
        keys = self._token_blocks.get(block_size)
        if keys is None:
            token_ids = self.token_ids[: TOKEN_BLOCKS_MAX * block_size]
            keys = self._token_blocks[block_size] = token_blocks(token_ids, block_size)
        return keys
