"""What `up` ends with: a line to paste that the declared models answer."""

import json
import shlex

import pytest

from gateway.up.screen import Screen
from registry.settings import load
from registry.spec import Task


@pytest.mark.parametrize(
    ("models", "path", "model"),
    [
        ({}, "/v1/chat/completions", "MODEL"),
        ({"e": Task.EMBED, "c": Task.GENERATE}, "/v1/chat/completions", "c"),
        ({"e": Task.EMBED, "r": Task.RERANK}, "/v1/embeddings", "e"),
        ({"r": Task.RERANK}, "/v1/rerank", "r"),
    ],
)
def test_the_line_to_paste_is_one_that_a_declared_model_answers(models, path, model, capsys):
    Screen().ready(load({}), "mk-key", models)
    _, _, line = capsys.readouterr().out.partition("Try it:\n")
    words = shlex.split(line.partition("\n\n")[0].replace("\\\n", " "))
    assert words[1].endswith(path)
    assert "Authorization: Bearer mk-key" in words
    assert json.loads(words[-1])["model"] == model
