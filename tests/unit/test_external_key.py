"""Keys of external workers: one line of a file; whatever is wrong with it, it is not shown."""

import os

import pytest

from pipelines.external import TokenError, read_token

SECRET = "sk-0123456789"


def test_without_a_file_there_is_no_key():
    assert read_token("") == ""


@pytest.mark.parametrize("text", [SECRET, f"{SECRET}\n", f"\n  {SECRET}\r\n\n"])
def test_the_key_is_the_files_one_line(tmp_path, text):
    file = tmp_path / "key"
    file.write_text(text)
    assert read_token(str(file)) == SECRET


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        f"{SECRET}\n{SECRET}".encode(),
        f"{SECRET} {SECRET}".encode(),
        f"{SECRET}\tx".encode(),
        f"{SECRET}\0".encode(),
        f"{SECRET}é".encode(),
        SECRET.encode() + b"\xff",
        SECRET.encode() * 400,
    ],
)
def test_anything_else_is_refused_without_a_word_of_it(tmp_path, data):
    file = tmp_path / "their key"
    file.write_bytes(data)
    with pytest.raises(TokenError, match="their key: ") as refused:
        read_token(str(file))
    assert SECRET[:5] not in str(refused.value)


def test_a_file_that_is_not_there_or_never_ends_is_refused(tmp_path):
    with pytest.raises(TokenError, match="No such file"):
        read_token(str(tmp_path / "missing"))
    with pytest.raises(TokenError, match="not a regular file"):
        read_token(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TokenError, match="not a regular file"):
        read_token(str(tmp_path / "pipe"))
