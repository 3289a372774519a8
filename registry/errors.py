"""The registry's errors.

RegistryError
├── SpecError         a spec that cannot be served; names the field and what is allowed
├── NotFoundError     no such model, worker, key, revision
├── ConflictError     the caller acted on an old generation (If-Match), or the name is taken
├── PlanConflictError a plan made against an older snapshot no longer fits
├── LeadershipLostError another controller leads, or nobody: what was to be written is not
├── SchemaError       the database is at another schema version than this code
├── BackupError       a backup could not be made, or is not whole
└── UnavailableError  the database did not answer, or stayed busy; the same call may work later
"""


class RegistryError(Exception):
    """The root of what the registry raises on purpose."""


class SpecError(RegistryError):
    """A spec that cannot be served.

    *field* is the path of the offending value, as in ``variants[0].topology.decode.workers``.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class NotFoundError(RegistryError):
    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"no {kind} named {name!r}")
        self.kind = kind
        self.name = name


class ConflictError(RegistryError):
    """The write was made against a generation that is no longer the current one."""


class PlanConflictError(RegistryError):
    """A placement no longer fits: the snapshot it was made from has been overtaken."""


class LeadershipLostError(RegistryError):
    """The lease is over, or another holder's. Nothing was written."""


class SchemaError(RegistryError):
    """The database's schema is not the one this code was written for."""


class BackupError(RegistryError):
    """A copy of the database that could not be made. What it was to be made for did not happen."""


class UnavailableError(RegistryError):
    """The database did not answer. A write may or may not have happened: look before repeating."""
