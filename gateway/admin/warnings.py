"""What is right about a spec and still will not work as its owner may think. Pure."""

from collections.abc import Collection, Iterable

from registry.spec import ModelSpec
from registry.state import Model


def warnings_of(
    spec: ModelSpec, models: Iterable[Model], along: Collection[str] = ()
) -> tuple[str, ...]:
    """*models* are those there are, *along* the names of some that will be. Sentences for people;
    none of them keeps *spec* from being applied, since models may come in any order.
    """
    standing = {model.name: model.spec for model in models if not model.deleted}
    found = []
    if spec.rollout.gate is not None and len(spec.rollout.canary) == 1:
        found.append(
            "rollout.gate watches nothing, since rollout.canary has one step: give it steps before "
            "100, as in [25, 100]"
        )
    for name in spec.fallback.models:
        other = standing.get(name)
        if other is None:
            if name not in along:
                found.append(
                    f"fallback.models names {name!r}, which is not there: it is skipped until "
                    "somebody applies it"
                )
        elif other.task is not spec.task:
            found.append(
                f"fallback.models names {name!r}, whose task is {other.task} and not {spec.task}: "
                "what it does not answer it is not asked for"
            )
    return tuple(found)
