"""What must be there before the first worker can start: the registry, runtimes and weights."""

from gateway.up.screen import Screen
from pipelines.cluster.inventory import device_kind
from pipelines.engines import ENGINES, runtime_of
from pipelines.runtimes import Runtimes, parse_requirement
from pipelines.runtimes.definitions import BUILTIN
from pipelines.topology import expand
from pipelines.turnover import as_applied
from pipelines.weights import ensure_weights
from registry.settings import Settings
from registry.spec import ModelSpec
from registry.state import WorkerPlan
from registry.upkeep import migrate


async def prepare_registry(settings: Settings, screen: Screen) -> None:
    """Brings the registry's schema to this version, backed up where it held something. Raises
    RegistryError.
    """
    migrated = await migrate(settings.database)
    if migrated.backup is not None:
        found, target = migrated.preflight.found, migrated.preflight.target
        screen.step(f"registry {found} → {target}; backup: {migrated.backup.file}")


def _plans(specs: tuple[ModelSpec, ...]) -> list[WorkerPlan]:
    models = [as_applied(None, spec) for spec in specs]
    gangs = [gang for model in models for gang in expand(model)]
    return [plan for gang in gangs for plan in gang if not plan.external]


def install_runtimes(settings: Settings, specs: tuple[ModelSpec, ...], screen: Screen) -> None:
    """Installs what the specs need and this machine lacks. Raises RuntimeUnavailableError."""
    kind = device_kind(settings)
    runtimes = Runtimes(settings.runtimes)
    needed = {runtime_of(plan, kind) for plan in _plans(specs)} - {BUILTIN}
    for runtime_id in sorted(needed):
        with screen.work(f"engine runtime {runtime_id}") as progress:
            runtimes.install(parse_requirement(runtime_id), progress)


def fetch_weights(settings: Settings, specs: tuple[ModelSpec, ...], screen: Screen) -> None:
    """Fetches the specs' weights that this machine lacks. Raises WeightsError."""
    kind = device_kind(settings)
    runtimes = Runtimes(settings.runtimes)
    sources = {
        plan.source: runtime_of(plan, kind)
        for plan in _plans(specs)
        if ENGINES[plan.engine].needs_weights
    }
    for source, runtime_id in sorted(sources.items()):
        with screen.work(f"weights {source}") as progress:
            ensure_weights(
                source,
                python=runtimes.python(runtime_id),
                models_dir=settings.models,
                progress=progress,
            )
