"""Workers that somebody else runs: where they are, and what they are told."""

import re
from collections.abc import Iterator

from registry.spec.checks import Strict, check_range, check_text, refuse
from registry.spec.topology import WORKERS_PER_ROLE_MAX, Bypass, Role, RoleSpec

_PORT_MAX = 65_535
_URL_CHARS_MAX = 512
# No path, no query, and above all no user and password: a spec is shown to whoever may read it.
_ORIGIN = re.compile(
    r"https?://(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)

_FIELDS = {Role.UNIFIED: "workers", Role.PREFILL: "prefill", Role.DECODE: "decode"}


class ExternalWorker(Strict, frozen=True, kw_only=True):
    """An engine that somebody else runs. *bootstrap_port* is an SGLang prefill worker's."""

    url: str
    bootstrap_port: int = 0

    def __post_init__(self) -> None:
        if not _is_origin(self.url):
            # A refused url may hold a password, so it is not repeated.
            refuse("url", "does not fit, allowed is http://host:port or https://host:port")
        check_range("bootstrap_port", self.bootstrap_port, 0, _PORT_MAX)

    @property
    def origin(self) -> str:
        """*url* in the one form that a path can be put after."""
        return self.url.removesuffix("/")


def _is_origin(text: str) -> bool:
    match = _ORIGIN.fullmatch(text)
    if match is None or len(text) > _URL_CHARS_MAX:
        return False
    return match["port"] is None or 1 <= int(match["port"]) <= _PORT_MAX


class External(Strict, frozen=True, tag="external", tag_field="type", kw_only=True):
    """OpenAI-compatible endpoints that run elsewhere: *workers* that each do both phases, or
    *prefill* and *decode* apart.

    *served_name* is the model's name there, if it differs from the one here. *token_file* holds
    the key to send them; the controller reads it, on its own machine.
    """

    workers: tuple[ExternalWorker, ...] = ()
    prefill: tuple[ExternalWorker, ...] = ()
    decode: tuple[ExternalWorker, ...] = ()
    served_name: str = ""
    token_file: str = ""
    bypass: Bypass = Bypass()

    def __post_init__(self) -> None:
        self._check_roles()
        self._check_workers()
        check_text("served_name", self.served_name, 256)
        check_text("token_file", self.token_file, 4096)
        if self.token_file and not self.token_file.startswith("/"):
            refuse("token_file", f"is {self.token_file[:80]!r}, allowed is an absolute path")

    def _check_roles(self) -> None:
        if self.workers and (self.prefill or self.decode):
            refuse("workers", "stand beside prefill or decode, allowed are the ones or the others")
        if not (self.workers or self.prefill or self.decode):
            refuse("workers", "are missing, allowed are workers, or prefill and decode")
        if bool(self.prefill) != bool(self.decode):
            missing = "decode" if self.prefill else "prefill"
            refuse(missing, "is missing, prefill and decode go together")
        if self.workers and self.bypass_tokens:
            refuse("bypass", "is for prefill and decode, workers do both phases anyway")

    def _check_workers(self) -> None:
        seen: set[str] = set()
        for role, workers in self.external_roles():
            if len(workers) > WORKERS_PER_ROLE_MAX:
                field = _FIELDS[role]
                refuse(field, f"are {len(workers)}, allowed are {WORKERS_PER_ROLE_MAX} at most")
        for _, where, worker in self.located():
            origin = worker.origin.lower()
            if origin in seen:
                refuse(f"{where}.url", f"is {origin} again, allowed is each once")
            seen.add(origin)

    @property
    def is_disaggregated(self) -> bool:
        return bool(self.prefill)

    @property
    def bypass_tokens(self) -> int:
        return self.bypass.max_prompt_tokens

    def external_roles(self) -> Iterator[tuple[Role, tuple[ExternalWorker, ...]]]:
        for role, field in _FIELDS.items():
            workers = getattr(self, field)
            if workers:
                yield role, workers

    def located(self) -> Iterator[tuple[Role, str, ExternalWorker]]:
        """Each worker with its role and its place in the topology, as in ``prefill[0]``."""
        for role, workers in self.external_roles():
            for index, worker in enumerate(workers):
                yield role, f"{_FIELDS[role]}[{index}]", worker

    def roles(self) -> Iterator[tuple[Role, RoleSpec]]:
        for role, workers in self.external_roles():
            yield role, RoleSpec(workers=len(workers))
