"""Reads YAML that somebody else wrote: only plain data, and nothing grows beyond its text. Pure."""

from typing import Any

import msgspec
import yaml

from registry.errors import SpecError

SPEC_FILE_BYTES_MAX = 4 * 1024 * 1024
ALIASES_MAX = 1000
KEYS_MAX = 1000  # of one mapping, merged ones included

_BOOL, _TEXT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:str"
# libyaml is ten times faster and bounds the depth, but not every PyYAML has it.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuses what YAML forbids and PyYAML lets pass (a key twice), and merges that explode.
        A key like `on` is the text that it is since YAML 1.2, no boolean.
        """
        seen: set[object] = set()
        for key, _ in node.value:
            if key.tag == _BOOL and key.value.lower() not in ("true", "false"):
                key.tag = _TEXT
            if _identity(key) in seen:
                raise _refusal(f"has {key.value[:80]!r} twice", key)
            seen.add(_identity(key))
        super().flatten_mapping(node)
        if len(node.value) > KEYS_MAX:
            raise _refusal(f"a mapping of over {KEYS_MAX} keys", node)
        # Merged keys come first and give way; left double they would look like a mistake when this
        # mapping is itself merged into another.
        node.value = list({_identity(pair[0]): pair for pair in node.value}.values())


def _identity(key: yaml.Node) -> object:
    return key.value if isinstance(key, yaml.ScalarNode) else id(key)


def _refusal(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def load_documents(text: str) -> list[Any]:
    """The documents that are not empty. Raises SpecError, saying where the text goes wrong."""
    if len(text) > SPEC_FILE_BYTES_MAX:
        raise SpecError("", f"the file is over {SPEC_FILE_BYTES_MAX} bytes")
    if text.lstrip().startswith("{"):
        # YAML nearly is a superset of JSON: it takes 1e-7 for a text.
        try:
            return [msgspec.json.decode(text)]
        except (msgspec.DecodeError, ValueError, RecursionError):
            pass  # a flow mapping then, or one with a mistake that YAML can place
    # An upper bound of the aliases, without having to parse it to know.
    if text.count("*") > ALIASES_MAX:
        raise SpecError("", f"the file has over {ALIASES_MAX} aliases (`*`)")
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        raise SpecError("", f"not valid YAML: {_where(error)}{error.problem}") from None
    # ValueError: numbers and dates that only look like some.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError("", f"not valid YAML: {str(error)[:200]}") from None
    return [document for document in documents if document is not None]


def _where(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
