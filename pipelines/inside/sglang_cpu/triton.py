"""Stands in for Triton where nothing of it runs: on CPUs it is 1 GB of compiler for GPUs.

SGLang defines its kernels with Triton's decorators when it is imported. It has a stand-in of its
own for that (`sglang._platform_stubs`), but hands it to macOS alone; this module puts the same one
into its place, and the few classes beside it that PyTorch's compiler wants by name.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_CLASSES = {
    "triton.compiler": ("CompiledKernel",),
    "triton.compiler.compiler": ("ASTSource",),
    "triton.backends": (),
    "triton.backends.compiler": ("BaseBackend", "GPUTarget", "AttrsDescriptor"),
    "triton.runtime": (),
    "triton.runtime.jit": ("JITFunction", "KernelInterface"),
    "triton.runtime.cache": (),
    "triton.runtime.autotuner": (),
}
_ERRORS = ("OutOfResources", "PTXASError")


class _Constexpr:
    """Of `tl.constexpr`: an annotation, and a wrapper for values."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


def _stubs() -> Any:
    """SGLang's own, by its file: importing the package would import Triton."""
    file = Path(__file__).parent / "sglang" / "_platform_stubs.py"
    spec = importlib.util.spec_from_file_location("_sglang_platform_stubs", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"no {file}: this stands in for Triton beside SGLang only")
    stubs = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = stubs  # its dataclass looks itself up
    spec.loader.exec_module(stubs)
    return stubs


def _stand_in() -> None:
    stubs = _stubs()

    def make(name: str) -> ModuleType:
        module: ModuleType = stubs._make_mock(name)  # noqa: SLF001 - there is no public way
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
        return module

    triton: Any = make("triton")
    triton.__version__ = "3.0.0"
    triton.cdiv, triton.Config = stubs._cdiv, stubs._Config  # noqa: SLF001
    triton.next_power_of_2 = stubs._next_power_of_2  # noqa: SLF001
    language: Any = make("triton.language")
    language.constexpr = _Constexpr
    for name, classes in _CLASSES.items():
        module = make(name)
        for each in classes:
            setattr(module, each, type(each, (stubs._StubBase,), {}))  # noqa: SLF001
    for each in _ERRORS:
        setattr(sys.modules["triton.runtime.autotuner"], each, type(each, (Exception,), {}))
    for name in ("triton.runtime.cache", "triton.compiler.compiler"):
        setattr(sys.modules[name], "triton_key", stubs._triton_key)  # noqa: B010, SLF001
    sys.meta_path.insert(0, stubs._TritonFinder())  # noqa: SLF001 - for all other submodules


# The import machinery hands out what now stands in sys.modules, which is no longer this module.
_stand_in()
