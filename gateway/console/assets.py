"""The built console, read once: what was not in the build when the process started is not served.

A request's path is only ever looked up in this dict, so there is no file that it could reach.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

DIST = Path(__file__).parent / "dist"
_INDEX = "index.html"
_HASHED = "assets/"  # Vite's folder of files whose names change with what is in them
_NONCE = re.compile(rb'(<meta\s+name="csp-nonce"\s+content=")[^"]*(?=")')
_ENCODINGS = {".br": "br", ".gz": "gzip"}  # the better one first
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the build: *bodies* by how they are encoded, as it is under ``""``."""

    content_type: str
    immutable: bool
    bodies: Mapping[str, bytes]

    def best(self, accepts: str) -> tuple[str, bytes]:
        """The encoding and the body for a client that says ``Accept-Encoding: accepts``."""
        accepted = _accepted(accepts)
        for encoding in (*_ENCODINGS.values(), ""):
            if encoding in self.bodies and (not encoding or encoding in accepted):
                return encoding, self.bodies[encoding]
        raise AssertionError("every asset is there as it is")


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """*index* is the page around every client route, its nonce left out."""

    index: bytes
    assets: Mapping[str, Asset]

    def page(self, nonce: str) -> bytes:
        return _NONCE.sub(rb"\g<1>" + nonce.encode(), self.index)

    def find(self, path: str) -> Asset | None:
        return self.assets.get(path.removeprefix("/"))

    @staticmethod
    def is_route(path: str) -> bool:
        """Whether a path that is no asset is the page's own business. A file that is not there any
        more must not be answered with a page: the browser would run it as a script.
        """
        name = path.removeprefix("/")
        at_top = "/" not in name and Path(name).suffix in _CONTENT_TYPES
        return not at_top and not name.startswith(_HASHED)


def read_build(folder: Path = DIST) -> Build | None:
    """None where nothing was built."""
    try:
        index = (folder / _INDEX).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    files = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }
    plain = [name for name in files if not _is_encoded(name, files) and name != _INDEX]
    return Build(index=index, assets={name: _asset(name, files) for name in plain})


def _is_encoded(name: str, files: Mapping[str, bytes]) -> bool:
    stem, dot, ending = name.rpartition(".")
    return dot + ending in _ENCODINGS and stem in files


def _asset(name: str, files: Mapping[str, bytes]) -> Asset:
    encoded = {
        encoding: files[name + ending]
        for ending, encoding in _ENCODINGS.items()
        if name + ending in files
    }
    return Asset(
        content_type=_CONTENT_TYPES.get(Path(name).suffix, "application/octet-stream"),
        immutable=name.startswith(_HASHED),
        bodies={"": files[name], **encoded},
    )


def _accepted(header: str) -> set[str]:
    accepted = set()
    for part in header.lower().split(","):
        name, _, weight = part.partition(";")
        if not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight):
            accepted.add(name.strip())
    return accepted
