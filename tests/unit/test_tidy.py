"""The design's rules that no linter knows, read from the source itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("registry", "pipelines", "gateway", "migrations")
SOURCES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
ENGINE_STACK = {"torch", "transformers", "vllm", "sglang"}
LINES_MAX = 400
FUNCTION_LINES_MAX = 70
TOP = {"gateway", "pipelines", "registry", "migrations", "tests", "web", "examples"}


def imports_of(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_source_file_keeps_the_rules(file):
    text = file.read_text()
    tree = ast.parse(text)

    assert len(text.splitlines()) <= LINES_MAX, "split it: one room, one subject"
    if "inside" not in file.parts:
        assert not imports_of(tree) & ENGINE_STACK, "engines live in environments of their own"
    assert not imports_of(tree) & {"pickle", "marshal", "shelve", "dill"}, "nothing is unpickled"
    assert "shell=True" not in text
    if file.name != "__init__.py" or text:
        assert ast.get_docstring(tree) or "versions" in file.parts, "says what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX or "versions" in file.parts, node.name


def test_no_room_is_called_for_what_it_is_not():
    names = {part for file in SOURCES for part in (file.stem, file.parent.name)}

    assert not names & {"utils", "util", "helpers", "common", "misc", "manager", "core"}


def test_only_the_known_folders_stand_at_the_top():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."}

    assert folders - {"dist", "build"} <= TOP


def test_time_is_read_only_where_it_is_handed_in_as_a_default():
    """Pure rooms get their time as an argument."""
    names = ("topology", "reconciler", "backoff", "departures", "conditions", "lost_nodes")
    pure = [ROOT / f"pipelines/{name}.py" for name in (*names, "silent")]
    for room in ("pipelines/scheduler", "pipelines/autoscaler", "registry/spec"):
        pure += (ROOT / room).glob("*.py")
    for file in pure:
        text = file.read_text()
        assert "time.time" not in text
        assert "datetime.now" not in text
