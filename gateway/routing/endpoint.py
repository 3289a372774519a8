"""Where a worker is asked, as the routing table has it. Pure."""

from urllib.parse import urlsplit

import msgspec

from registry.spec import Locality, Role
from registry.state import Phase, Worker

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A ready worker's address. *authority* is the Host header, *identity* what an answer says
    of it, the row's revision included (*revision* is the one that it was started with); *kin* is
    equal for workers that can hand KV blocks to each other.

    *served_name* replaces the client's model name ("" leaves it), *bootstrap_port* is where a
    prefill worker of a concurrent engine meets decode, *events_url* where the worker tells of its
    KV cache.
    """

    worker_id: str
    role: Role
    revision: int
    host: str  # an address; of an external worker it may be a DNS name
    port: int
    authority: str
    token: str  # "" sends none
    kin: tuple[str, ...]
    identity: bytes  # header lines
    model: str = ""
    variant: str = ""
    tls: bool = False
    served_name: str = ""
    bootstrap_port: int = 0
    events_url: str = ""

    def __repr__(self) -> str:  # the token must not reach a log by way of repr
        return f"<Endpoint {self.worker_id}>"


def partners(decode: Endpoint, prefills: list[Endpoint]) -> tuple[Endpoint, ...]:
    kin = [prefill for prefill in prefills if prefill.kin == decode.kin]
    # A scaled-up role carries a newer revision than the pair it joins, and still fits; while a
    # real change rolls out, each half finds the one made with it.
    same = [prefill for prefill in kin if prefill.revision == decode.revision]
    return tuple(same or kin)


def endpoint_of(worker: Worker, revision: int) -> Endpoint | None:
    """As the row of *revision* has it. None for a worker that may not get requests, or whose
    address cannot be one.
    """
    if worker.phase is not Phase.READY:
        return None
    try:
        url = urlsplit(worker.url)
        host, port = url.hostname, url.port
    except ValueError:
        return None
    plan, external = worker.plan, worker.plan.external
    if external:
        port = port or _DEFAULT_PORTS.get(url.scheme)
    tls = external is not None and url.scheme == "https"
    if not (tls or url.scheme == "http") or not host or not port:
        return None
    if not (worker.token.isascii() and worker.token.isprintable()):
        return None  # it could not be a header's value
    return Endpoint(
        worker_id=worker.id,
        role=plan.role,
        revision=plan.revision,
        host=host,
        port=port,
        authority=url.netloc,
        token=worker.token,
        kin=(
            *(plan.engine, worker.runtime, plan.source, plan.transfer),
            worker.node if plan.locality is Locality.NODE else "",
        ),
        identity=b"x-modelyard-model: %b\r\nx-modelyard-variant: %b\r\nx-modelyard-revision: %d\r\n"
        % (plan.model.encode(), plan.variant.encode(), revision),
        model=plan.model,
        variant=plan.variant,
        tls=tls,
        served_name=external.served_name if external else "",
        bootstrap_port=external.bootstrap_port if external else worker.kv_port,
        events_url=worker.events_url,
    )
