"""What the documents say exists, and what exists they say."""

import re
from pathlib import Path

import msgspec
import pytest

from gateway.api.operations import BY_NAME
from pipelines.engines import ENGINES
from pipelines.engines.base import TASK_OPERATIONS
from registry.cli.main import cli
from registry.settings import PREFIX, Settings
from registry.spec import EngineName, Task, from_yaml

ROOT = Path(__file__).parents[2]
DOCS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


@pytest.mark.parametrize("field", [field.name for field in msgspec.structs.fields(Settings)])
def test_every_setting_is_in_the_readme(field):
    assert f"`{PREFIX}{field.upper()}`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", DOCS)
def test_every_file_that_a_document_names_exists(name):
    text = (ROOT / name).read_text()
    paths = re.findall(
        r"`((?:registry|pipelines|gateway|migrations|tests|examples)/[\w./-]+)`", text
    )
    paths += re.findall(r"\]\(([\w./-]+)\)", text)

    assert not [path for path in paths if not (ROOT / path).exists()]


def test_every_command_that_the_readme_shows_exists():
    text = (ROOT / "README.md").read_text()
    words = {match.split()[0] for match in re.findall(r"^modelyard (.+)$", text, re.MULTILINE)}

    assert words
    assert words <= set(cli.commands)


def test_every_make_target_that_a_document_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in DOCS:
        for line in re.findall(r"`make ([a-z -]+)`", (ROOT / name).read_text()):
            assert set(line.split()) <= targets, line


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda f: f.name)
def test_every_example_is_a_valid_spec(file):
    assert from_yaml(file.read_text())


A_MODEL = """
name: m
source: file:///m
variants: [{engine: vllm, topology: {type: aggregated}}]
"""


def test_the_readmes_own_specs_are_valid():
    """Those that are a part of one are read as a part of a small one."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    assert [from_yaml(b if b.startswith("name:") else A_MODEL + b) for b in blocks]


def test_the_readmes_table_of_routes_is_what_the_adapters_say():
    text = (ROOT / "README.md").read_text()
    rows = {
        cells[0].split("`")[1].removeprefix("POST "): (cells[0], *cells[1:])
        for line in text.splitlines()
        if line.startswith("| `POST ") and (cells := [c.strip() for c in line[1:-1].split("|")])
    }
    assert list(rows) == [operation.path for operation in BY_NAME.values()]
    for operation in BY_NAME.values():
        first, tasks, *cells = rows[operation.path]
        assert all(f"`{path}`" in first for path in operation.aliases)
        answering = [task for task in Task if operation.name in TASK_OPERATIONS[task]]
        assert tasks == ("every" if len(answering) == len(Task) else ", ".join(answering))
        for name, cell in zip((EngineName.VLLM, EngineName.SGLANG), cells, strict=True):
            engine = ENGINES[name]
            paired = operation.name in engine.paired_operations
            assert cell == (
                "pair" if paired else "yes" if operation.name in engine.operations else "—"
            )
