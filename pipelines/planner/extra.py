"""What the planner needs beside the rest of Modelyard: `pip install 'modelyard[planner]'`."""

from importlib.util import find_spec

_NEEDED = {"ortools": "ortools", "aiconfigurator_core": "aiconfigurator-core"}


class PlannerExtraError(Exception):
    """The optional dependencies are not installed."""


def require() -> None:
    """Raises PlannerExtraError, which says what to install."""
    missing = [name for module, name in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise PlannerExtraError(
            f"the planner needs {' and '.join(missing)}, not installed here: "
            "pip install 'modelyard[planner]'"
        )
