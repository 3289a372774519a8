"""Who is on this machine's devices: our workers, or another program, which no worker should join.

A claim says what a worker may take, the driver what is taken. A device that somebody else uses is
in quarantine; one whose workers use more than they claim is told of.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from pipelines.cluster.gpus import Found, GpuProcess
from pipelines.cluster.processes import WorkerProcesses, process_name
from pipelines.cluster.workerdir import worker_folders
from registry.state import ENDED_PHASES, Device

_GIB = 2**30
# Less than this is what a driver, or a display, keeps for itself.
INVISIBLE_BYTES_MAX = 512 * 2**20
_INVISIBLE = "memory in use by what is not visible here"
_SECOND_LOOK_S = 1.0


class Suspect(msgspec.Struct, frozen=True):
    """What was seen on a device: *pid* of another program, 0 for what is not visible here. *why*
    is the sentence of the first time, so that changing numbers are no news.
    """

    pid: int
    why: str


class Occupancy:
    """Remembers who was seen at the look before: only what is seen twice in a row is foreign, since
    a worker that has just ended may be on its way out. The first look of all is done twice.
    """

    def __init__(
        self,
        workers: Path,
        *,
        own_pids: bool,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._workers = workers
        self._own_pids = own_pids
        self._sleep = sleep
        self._before: dict[str, Suspect] | None = None

    def judge(self, look: Callable[[], tuple[Found, ...]]) -> tuple[Device, ...]:
        """The devices of a *look* with their quarantine, and what they are used beyond claims."""
        found = look()
        suspects = self._suspects(found)
        if suspects and self._before is None:
            self._before = suspects
            self._sleep(_SECOND_LOOK_S)
            found = look()
            suspects = self._suspects(found)
        before, self._before = self._before or {}, suspects
        claimed = self._claimed_bytes()
        return tuple(
            _judged(one.device, suspects.get(one.device.id), before, claimed) for one in found
        )

    def _suspects(self, found: Sequence[Found]) -> dict[str, Suspect]:
        """By device. Someone who was there before stays who it was."""
        ours = self._our_processes()
        claimed = self._claimed_bytes()
        suspects = {}
        for one in found:
            earlier = (self._before or {}).get(one.device.id)
            suspect = self._suspect(one, ours, claimed, earlier)
            if suspect is not None:
                suspects[one.device.id] = suspect
        return suspects

    def _suspect(
        self,
        found: Found,
        ours: WorkerProcesses,
        claimed: dict[str, int],
        earlier: Suspect | None,
    ) -> Suspect | None:
        foreign, invisible = [], False
        for process in found.processes:
            if not process.compute or ours.include(process.pid):
                continue
            name = process_name(process.pid) if self._own_pids else ""
            if name:
                foreign.append((process, name))
            else:
                invisible = True
        if foreign:
            if earlier is not None and any(one.pid == earlier.pid for one, _ in foreign):
                return earlier
            process, name = max(foreign, key=lambda pair: (pair[0].used_bytes, -pair[0].pid))
            return Suspect(process.pid, _foreign(process, name))
        rest_bytes = found.device.used_bytes - _visible_bytes(found.processes, invisible=invisible)
        if found.device.id not in claimed and rest_bytes > INVISIBLE_BYTES_MAX:
            return Suspect(0, _INVISIBLE)
        return None

    def _our_processes(self) -> WorkerProcesses:
        sessions = {}
        for folder in worker_folders(self._workers):
            state = folder.state()
            sessions[folder.worker_id] = state.session_id if state else None
        return WorkerProcesses(sessions)

    def _claimed_bytes(self) -> dict[str, int]:
        """What living workers were given of each device, by its id."""
        claimed: dict[str, int] = {}
        for folder in worker_folders(self._workers):
            state = folder.state()
            launch = folder.launch_or_none()
            if launch is None or (state and state.phase in ENDED_PHASES):
                continue
            for device_id, size in launch.claims.items():
                claimed[device_id] = claimed.get(device_id, 0) + size
        return claimed


def _judged(
    device: Device,
    suspect: Suspect | None,
    before: dict[str, Suspect],
    claimed: dict[str, int],
) -> Device:
    earlier = before.get(device.id)
    if suspect and earlier and suspect.pid == earlier.pid:
        return msgspec.structs.replace(device, quarantine=suspect.why)
    if suspect:
        return device
    overuse = overuse_sentence(device.used_bytes, claimed.get(device.id, 0))
    return msgspec.structs.replace(device, overuse=overuse)


def overuse_sentence(used_bytes: int, claimed_bytes: int) -> str:
    """5 % or 1 GiB, whichever is more, is tolerated; then, and where nothing is claimed, it is
    empty.
    """
    tolerance_bytes = max(claimed_bytes // 20, _GIB)
    if not claimed_bytes or used_bytes <= claimed_bytes + tolerance_bytes:
        return ""
    return f"its workers use {used_bytes / _GIB:.1f} GiB and claim {claimed_bytes / _GIB:.1f} GiB"


def _visible_bytes(processes: Sequence[GpuProcess], *, invisible: bool) -> int:
    """What is known to be somebody's; of processes that are not visible here, nothing is."""
    if invisible:
        return sum(one.used_bytes for one in processes if not one.compute)
    return sum(one.used_bytes for one in processes)


def _foreign(process: GpuProcess, name: str) -> str:
    held = f"holds {process.used_bytes / _GIB:.1f} GiB" if process.used_bytes else "uses it"
    return f"process {process.pid} ({name}) of another program {held}"
