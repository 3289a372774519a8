"""What the silicon data was asked, kept in a folder from one plan to the next.

One file for each `Key`. Files are replaced whole, so that several planners may share the folder;
one that cannot be read is as none, one that cannot be written is told of, and the plan goes on.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from math import isfinite
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec

STEPS_MAX = 200_000  # of a file: about 20 bytes each
FILE_BYTES_MAX = 16 * 2**20
FOLDER_BYTES_MAX = 256 * 2**20  # beyond it the files that were written longest ago go
_ENDING = ".msgpack"

Step = tuple[int, int, int, int]  # prompt_part, prompt, sequences, context


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """All that an answer of the data depends on: of *model* on *devices* of one *system*, beside
    what is asked.
    """

    library: str  # its version
    model: str
    system: str
    engine: str
    devices: int
    sequences_max: int
    memory_used: float
    prefill_factor: float
    decode_factor: float


class Room(msgspec.Struct, frozen=True):
    """As in `times.StepTimes`."""

    kv_tokens: int
    kv_token_bytes: int
    weight_bytes: int
    memory_bytes: int


class Gap(msgspec.Struct, frozen=True):
    """There is no answer, and why; *is_measured* where only the device is too small."""

    reason: str
    is_measured: bool


class Answers(msgspec.Struct):
    """*rooms* and *gaps* by the batched tokens of a worker."""

    rooms: dict[int, Room] = {}
    gaps: dict[int, Gap] = {}
    steps_s: dict[Step, float] = {}

    def counts(self) -> tuple[int, int, int]:
        return len(self.rooms), len(self.gaps), len(self.steps_s)


class _File(msgspec.Struct):
    key: Key
    answers: Answers


def cache_folder() -> Path | None:
    """The user's, for the planner; None where the user has no home."""
    told = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        base = told if told.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return base / "modelyard" / "planner"


class Kept:
    """*folder* need not be there yet. *warn* is told, once, what keeps it from being used."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._warn = warn
        self._has_warned = False

    def read(self, key: Key) -> Answers:
        """Empty where nothing is kept, or nothing that can be read."""
        path = self._path(key)
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                return Answers()
            found = msgspec.msgpack.decode(path.read_bytes(), type=_File)
        except FileNotFoundError:
            return Answers()
        except (OSError, ValueError, RecursionError) as error:
            self._tell(f"{path} is not used: {error}")
            return Answers()
        if found.key != key or not _is_sound(found.answers):
            self._tell(f"{path} is not used: it holds something else")
            return Answers()
        return found.answers

    def write(self, every: Mapping[Key, Answers]) -> None:
        """Beside what others have written since."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for key, answers in every.items():
                self._write(key, answers)
            self._bound()
        except OSError as error:
            self._tell(f"nothing was written to {self._folder}: {error}")

    def _write(self, key: Key, answers: Answers) -> None:
        there = self.read(key)
        steps_s = there.steps_s | answers.steps_s
        whole = Answers(
            rooms=there.rooms | answers.rooms,
            gaps=there.gaps | answers.gaps,
            steps_s=dict(list(steps_s.items())[:STEPS_MAX]),
        )
        with NamedTemporaryFile(dir=self._folder, suffix=_ENDING, delete=False) as file:
            try:
                file.write(msgspec.msgpack.encode(_File(key, whole)))
                file.close()
                Path(file.name).replace(self._path(key))
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def _bound(self) -> None:
        found = []
        for path in self._folder.glob(f"*{_ENDING}"):
            with suppress(FileNotFoundError):  # another planner was here
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
        spare = FOLDER_BYTES_MAX
        for _, size, path in sorted(found, reverse=True):
            spare -= size
            if spare < 0:
                path.unlink(missing_ok=True)

    def _path(self, key: Key) -> Path:
        return self._folder / (sha256(msgspec.json.encode(key)).hexdigest()[:40] + _ENDING)

    def _tell(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(f"the planner's cache: {text}")


def _is_sound(answers: Answers) -> bool:
    return all(isfinite(step_s) and step_s >= 0 for step_s in answers.steps_s.values())
