"""The runtimes on this node: one virtual environment each, complete or not there.

A manifest, written last, makes an environment valid; it names the recipe it was made from, so a
changed recipe installs anew, and so do changed stand-ins for what it lacks.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from filelock import FileLock

from pipelines.runtimes.definitions import (
    BUILTIN,
    RuntimeDefinition,
    RuntimeUnavailableError,
)

_INSIDE = Path(__file__).parents[1] / "inside"
_MANIFEST = "modelyard-runtime.json"
_OUTPUT_LINES_KEPT = 25
Progress = Callable[[str], None]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    recipe_digest: str
    installed_at: float


class Runtimes:
    """The folder of runtimes of one node."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def installed(self) -> tuple[str, ...]:
        """The ids of the usable ones, `builtin` always among them."""
        found = {BUILTIN}
        if self._root.is_dir():
            found.update(path.name for path in self._root.iterdir() if self._manifest(path))
        return tuple(sorted(found))

    def manifest(self, runtime_id: str) -> Manifest | None:
        return self._manifest(self._root / runtime_id)

    def python(self, runtime_id: str) -> str:
        """The runtime's interpreter. Raises RuntimeUnavailableError when it is not installed."""
        if runtime_id == BUILTIN:
            return sys.executable
        if self._manifest(self._root / runtime_id) is None:
            raise RuntimeUnavailableError(
                f"runtime {runtime_id} is not installed on this node: "
                f"run `modelyard runtimes install {runtime_id}`"
            )
        return str(self._root / runtime_id / "bin" / "python")

    def install(self, definition: RuntimeDefinition, progress: Progress) -> bool:
        """Makes the environment unless it is there. Returns whether it had to.

        Safe to call from two processes. Raises RuntimeUnavailableError with the installer's words.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        target = self._root / definition.id
        with FileLock(self._root / f".{definition.id}.lock"):
            present = self._manifest(target)
            if present is not None and present.recipe_digest == _digest(definition):
                return False
            shutil.rmtree(target, ignore_errors=True)
            started = time.monotonic()
            for title, command in _steps(definition, target, self._root):
                _run(definition.id, title, command, progress)
            self._write_manifest(definition, target)
            progress(f"installed in {time.monotonic() - started:.0f} s")
        return True

    def _manifest(self, path: Path) -> Manifest | None:
        try:
            return msgspec.json.decode((path / _MANIFEST).read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError):
            return None

    def _write_manifest(self, definition: RuntimeDefinition, target: Path) -> None:
        manifest = Manifest(
            id=definition.id, recipe_digest=_digest(definition), installed_at=time.time()
        )
        (target / _MANIFEST).write_bytes(msgspec.json.encode(manifest))


def _digest(definition: RuntimeDefinition) -> str:
    digest = hashlib.sha256(msgspec.json.encode(definition))
    for script in definition.recipe.adjusted_by:
        folder = (_INSIDE / script).parent
        if folder != _INSIDE:
            for file in sorted(folder.glob("*.py")):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _steps(
    definition: RuntimeDefinition, target: Path, root: Path
) -> Iterator[tuple[str, list[str]]]:
    yield "making the environment", [sys.executable, "-m", "venv", "--clear", str(target)]
    pip = [str(target / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "install", "--progress-bar", "off"]
    pins: list[str] = []
    if definition.lock:
        constraints = root / f".{definition.id}.constraints.txt"
        constraints.write_text(definition.lock)
        pins = ["--constraint", str(constraints)]
    yield "installing", [*install, *pins, *definition.packages]
    if definition.without_dependencies:
        yield "installing", [*install, *pins, "--no-deps", *definition.without_dependencies]
    if definition.recipe.removed:
        yield "removing what cannot run here", [*pip, "uninstall", "-y", *definition.recipe.removed]
    for script in definition.recipe.adjusted_by:
        yield f"running {script}", [str(target / "bin" / "python"), str(_INSIDE / script)]


def _run(runtime_id: str, title: str, command: list[str], progress: Progress) -> None:
    progress(title)
    last: list[str] = []
    with subprocess.Popen(  # noqa: S603 (argv from a recipe, no shell)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = [*last, line.rstrip()][-_OUTPUT_LINES_KEPT:]
                if step := _step(line):
                    progress(step)
        except BaseException:  # Ctrl-C: the installer and what it started must not go on
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise RuntimeUnavailableError(_failure(runtime_id, last))


def _step(line: str) -> str:
    """What of the installer's chatter a person wants to see: what is fetched, and the end."""
    words = line.strip()
    if words.startswith(("Downloading ", "Installing collected packages")):
        return words[:100]
    if words.startswith("Collecting "):
        return words.partition(" (from")[0][:100]
    return ""


def _failure(runtime_id: str, last: list[str]) -> str:
    errors = [line for line in last if line.startswith("ERROR")] or last[-3:]
    text = f"runtime {runtime_id} could not be installed: {' '.join(errors)}"
    if "torch==" in text or "+cpu" in text:
        text += " (set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds and try again)"
    return text
