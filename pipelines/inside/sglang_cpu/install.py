"""Runs inside the runtime `sglang-cpu`, once, when it is installed: makes SGLang whole on CPUs.

The wheel of SGLang 0.5.23 is for GPUs; on a CPU it lacks a compiled package that no index carries
(sgl-kernel), and takes for granted what only GPUs need. What stands in lies beside this file and
goes into the environment's site-packages.
"""

import ctypes
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_paths()["purelib"])
BESIDE = Path(__file__).parent
PLUGIN = "modelyard_sglang_cpu"
STAND_INS = ("sgl_kernel.py", "triton.py", f"{PLUGIN}.py")
# What of Mooncake's libraries a bare machine may lack, and what they are called in Debian.
NEEDED = {"libibverbs.so.1": "libibverbs1", "libnuma.so.1": "libnuma1", "libcurl.so.4": "libcurl4"}
# Here everything that is patched at run time is looked up: another version must fail now.
CHECK = """
from importlib.metadata import entry_points
import mooncake.engine, sglang.srt.server_args
from sglang.srt.disaggregation.mooncake.conn import MooncakeKVSender
from sglang.srt.mem_cache.kv_cache_configurator import KVCacheConfigurator
assert MooncakeKVSender.supports_host_tensor_indices is True
assert callable(KVCacheConfigurator._profile_available_bytes)
(plugin,) = entry_points(group="sglang.srt.plugins")
plugin.load()()
assert MooncakeKVSender.supports_host_tensor_indices is False
"""


def main() -> None:
    put_stand_ins()
    register_plugin()
    # It registers operators that only a CUDA build of torchvision brings, and fails without them.
    (SITE / "torchvision" / "_meta_registrations.py").write_text("")
    find_libraries()
    checked = subprocess.run(  # noqa: S603 - our own text, this interpreter
        [sys.executable, "-c", CHECK], capture_output=True, text=True, check=False
    )
    if checked.returncode != 0:
        raise SystemExit(f"SGLang cannot be imported here: {checked.stderr[-2000:]}")


def put_stand_ins() -> None:
    for name in STAND_INS:
        shutil.copyfile(BESIDE / name, SITE / name)


def register_plugin() -> None:
    """As pip would: SGLang finds plugins by the entry points of installed distributions."""
    info = SITE / f"{PLUGIN}-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[sglang.srt.plugins]\ncpu = {PLUGIN}:register\n")


def find_libraries() -> None:
    """Mooncake links to libraries of InfiniBand even where it speaks TCP. NIXL's wheel, which is
    installed for nothing else, carries them; where the machine has none, Mooncake finds those.
    """
    missing = [name for name in NEEDED if not _loads(name)]
    if not missing:
        return
    carried = sorted((SITE / "nixl_cu12.libs").glob("*.so*"))
    for name in missing:
        stem = name.partition(".")[0]
        found = [file for file in carried if file.name.startswith(f"{stem}-")]
        if not found:
            raise SystemExit(f"{name} is missing: run `apt-get install {NEEDED[name]}`")
        _link(name, found[0])
    for file in carried:  # by their own names, which are theirs alone: they need each other
        _link(file.name, file)


def _link(name: str, file: Path) -> None:
    (beside,) = SITE.glob("mooncake*.libs")  # where Mooncake looks first
    link = beside / name
    link.unlink(missing_ok=True)
    link.symlink_to(Path("..") / file.parent.name / file.name)


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
