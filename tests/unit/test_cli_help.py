"""The command tree itself: every command explains itself, and what it execs."""

import sys

import click
import pytest
from click.testing import CliRunner

from registry.cli import exits, machine
from registry.cli.main import cli


def commands(command: click.Command = cli, words: tuple[str, ...] = ()):
    yield command, words
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            yield from commands(sub, (*words, name))


FORWARDED = {
    ("up",): ["gateway", "up"],
    ("gateway",): ["gateway", "serve"],
    ("controller",): ["pipelines.controller"],
    ("runtimes", "list"): ["pipelines.runtimes", "list"],
    ("runtimes", "install"): ["pipelines.runtimes", "install"],
}
EXPLAINED = [(command, words) for command, words in commands() if words not in FORWARDED]


@pytest.mark.parametrize(("command", "words"), EXPLAINED, ids=[" ".join(w) for _, w in EXPLAINED])
def test_help_mentions_every_option_and_argument(command: click.Command, words: tuple[str, ...]):
    result = CliRunner().invoke(cli, [*words, "--help"])
    assert result.exit_code == 0
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert all(name in result.output for name in parameter.opts), parameter.name
            assert parameter.help, parameter.name
        else:
            assert parameter.make_metavar(click.Context(command)) in result.output


def test_help_of_the_whole_lists_every_command_and_exit_code():
    text = CliRunner().invoke(cli, ["--help"]).output
    assert {name for names in cli.sections.values() for name in names} == set(cli.commands)
    for name in cli.commands:
        assert f"  {name} " in text
    for code, meaning in exits.TABLE:
        assert str(code) in text
        assert meaning[:30] in text
    assert "..." not in text.split("COMMAND [ARGS]...")[1], "a summary is cut off"


@pytest.mark.parametrize("words", FORWARDED, ids=" ".join)
def test_processes_are_execed_with_all_their_options(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    seen: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(machine.os, "execv", lambda path, argv: seen.append((path, argv)))
    given = ["--help", "-f", "x.yaml", "--port", "0", "name==1.0"]
    CliRunner().invoke(cli, [*words, *given])
    module, *rest = FORWARDED[words]
    assert seen == [(sys.executable, [sys.executable, "-m", module, *rest, *given])]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str):
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert "_MODELYARD_COMPLETE" in result.output


def test_version():
    assert CliRunner().invoke(cli, ["version"]).output.startswith("modelyard 0.")


def test_ctrl_c_is_130():
    @click.command()
    def interrupted():
        raise KeyboardInterrupt

    cli.add_command(interrupted)
    try:
        result = CliRunner().invoke(cli, ["interrupted"])
    finally:
        cli.commands.pop("interrupted")
    assert result.exit_code == 130
    assert result.output.strip() == ""
