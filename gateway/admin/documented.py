"""What OpenAPI is told beside what the routes' types say: bodies, the spec, refusals."""

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from gateway.admin.account_bodies import AccountBody, PasswordBody, SignInBody
from gateway.admin.bodies import (
    KeyBody,
    KeyPatchBody,
    PlanBody,
    PoolBody,
    QuotaBody,
    RecommendationBody,
    RotateBody,
    ScaleBody,
)
from gateway.admin.errors import ErrorView
from gateway.admin.tuning_bodies import MeasureBody, TunePrefillBody
from registry.spec import ModelSpec


def _schema(kind: type[msgspec.Struct]) -> Schema:
    """The JSON schema of *kind* with its parts in place: no type here contains itself."""
    root = msgspec.json.schema(kind)
    whole = _inlined(root["$defs"][kind.__name__], root["$defs"])
    return Schema(
        title=kind.__name__,
        type=OpenAPIType.OBJECT,
        properties=whole["properties"],
        required=whole.get("required", []),
        additional_properties=False,
    )


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    if node.get("format") == "decimal":  # msgspec writes decimals as texts, people as numbers
        node = {**node, "type": "number"}
    # A discriminator maps to definitions; each of its choices has its tag as a constant anyway.
    return {
        name: _inlined(value, definitions)
        for name, value in node.items()
        if name != "discriminator"
    }


class SpecSchemaPlugin(OpenAPISchemaPlugin):
    """Litestar's own reading of the spec fails: it hashes defaults, and one holds a dict."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return value is ModelSpec

    def to_openapi_schema(
        self,
        field_definition: FieldDefinition,  # noqa: ARG002
        schema_creator: Any,  # noqa: ARG002
    ) -> Schema:
        return _schema(ModelSpec)


class AnswerSchemaPlugin(OpenAPISchemaPlugin):
    """Every field of an answer is there, those with a default, too. Where a client may leave some
    out, in bodies and in the spec, `_schema` says so.
    """

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return (
            isinstance(value, type)
            and issubclass(value, msgspec.Struct)
            and not value.__struct_config__.omit_defaults
        )

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        hints = field_definition.get_type_hints(include_extras=True, resolve_generics=True)
        fields = {
            name: FieldDefinition.from_annotation(hints[name], name=name)
            for name in field_definition.type_.__struct_fields__
        }
        schema: Schema = schema_creator.create_component_schema(
            field_definition, required=sorted(fields), property_fields=fields
        )
        return schema


def _taking(kind: type[msgspec.Struct], *, required: bool = True) -> type[Operation]:
    """An operation that declares its body: the route itself reads bytes, to decode strictly."""

    @dataclass  # for its `__init__` to call `__post_init__`
    class Taking(Operation):
        def __post_init__(self) -> None:
            content = {"application/json": OpenAPIMediaType(schema=_schema(kind))}
            self.request_body = RequestBody(content=content, required=required)

    return Taking


@dataclass
class TakesYaml(Operation):
    """An operation whose body is the YAML of an export."""

    def __post_init__(self) -> None:
        schema = Schema(type=OpenAPIType.STRING)
        content = {"application/yaml": OpenAPIMediaType(schema=schema)}
        self.request_body = RequestBody(content=content, required=True)


@dataclass
class TakesChat(Operation):
    """An operation whose body is that of a chat completion: what is in it, the listener checks."""

    def __post_init__(self) -> None:
        schema = Schema(type=OpenAPIType.OBJECT, additional_properties=True)
        content = {"application/json": OpenAPIMediaType(schema=schema)}
        self.request_body = RequestBody(content=content, required=True)


def _refusal(description: str) -> ResponseSpec:
    return ResponseSpec(ErrorView, description=description, generate_examples=False)


TakesSpec = _taking(ModelSpec)
TakesScale = _taking(ScaleBody)
TakesKey = _taking(KeyBody)
TakesKeyPatch = _taking(KeyPatchBody)
TakesRotate = _taking(RotateBody)
TakesPlan = _taking(PlanBody, required=False)
TakesQuota = _taking(QuotaBody)
TakesRecommendation = _taking(RecommendationBody)
TakesTunePrefill = _taking(TunePrefillBody, required=False)
TakesMeasure = _taking(MeasureBody, required=False)

TakesPool = _taking(PoolBody)
TakesSignIn = _taking(SignInBody)
TakesAccount = _taking(AccountBody)
TakesPassword = _taking(PasswordBody)

REFUSALS = {
    400: _refusal("The request is malformed"),
    401: _refusal("No admin key and no session, or one that opens nothing here"),
    403: _refusal("Only for the admin role; or a browser asks, and not from the console's page"),
    404: _refusal("No such object"),
    422: _refusal("A value is not allowed; `field` names it"),
}
WRITE_REFUSALS = {
    **REFUSALS,
    409: _refusal("Somebody else wrote in between"),
    412: _refusal("If-Match or If-None-Match does not hold"),
    413: _refusal("The body is too large"),
}
STREAM_REFUSALS = {**REFUSALS, 429: _refusal("Too many streams are followed")}
THINKING_REFUSALS = {**REFUSALS, 429: _refusal("Too many plans are being made")}
SIGN_IN_REFUSALS = {**REFUSALS, 429: _refusal("Too many tries failed: Retry-After says when")}
