"""What a request asks of its workers, as far as the choice of them needs to know."""

from collections.abc import Callable

from gateway.routing.blocks import BLOCK_BYTES, Key, byte_blocks
from gateway.routing.table import VariantRow
from registry.spec import RoutingPolicy

BYTES_PER_TOKEN = 4  # of English text


class Ask:
    """Made once for each request, asked again for each try.

    *prompt* is the raw JSON of `messages` or `prompt`, *prompt_tokens* an estimate of its length
    (None: several prompts), *session* what the client calls its conversation, or empty.
    *token_ids* are the prompt's, once an engine has been asked for them; only `kv_events` needs
    them. *policy* is that of the model it was last routed for.
    """

    __slots__ = (
        "_blocks",
        "fits_pair",
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
    ) -> None:
        self.prompt = prompt
        self.prompt_tokens = prompt_tokens
        self.fits_pair = fits_pair
        self.session = session
        self.token_ids: tuple[int, ...] | None = None
        self.policy = RoutingPolicy.ROUND_ROBIN
        # What it counts for in a worker's load: never nothing.
        self.tokens = (
            len(prompt) // BYTES_PER_TOKEN if prompt_tokens is None else prompt_tokens
        ) or 1
        self._blocks: tuple[Key, ...] | None = None

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
