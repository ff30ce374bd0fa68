"""The words that the document is written in: schemas, parameters, bodies and responses."""

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

JSON = "application/json"
STRING: Json = {"type": "string"}
INTEGER: Json = {"type": "integer"}
COUNT: Json = {"type": "integer", "minimum": 0}
NUMBER: Json = {"type": "number"}
BOOLEAN: Json = {"type": "boolean"}
DATE: Json = {"type": "string", "format": "date"}
INSTANT: Json = {"type": "string", "format": "date-time", "description": "ISO 8601 in UTC."}
ANY: Json = {}


REQUEST_ID: Json = {
    "description": "The caller's own; else one of ours, but none on hits.",
    "schema": STRING,
}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def told(schema: Json, description: str) -> Json:
    return {**schema, "description": description}


def enum(values: Iterable[object], description: str = "") -> Json:
    schema: Json = {"enum": list(values)}
    if all(isinstance(value, str) for value in schema["enum"]):
        schema["type"] = "string"
    return told(schema, description) if description else schema


def nullable(schema: Json) -> Json:
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def array(items: Json, description: str = "", **bounds: int) -> Json:
    schema: Json = {"type": "array", "items": items, **bounds}
    return told(schema, description) if description else schema


def table(values: Json, description: str = "") -> Json:
    """An object whose names are not known beforehand."""
    schema: Json = {"type": "object", "additionalProperties": values}
    return told(schema, description) if description else schema


def record(
    fields: Mapping[str, Json], description: str = "", *, optional: Iterable[str] = ()
) -> Json:
    """An object of an answer. It has all of `fields` but the optional ones; later versions may
    add more."""
    left_out = frozenset(optional)
    required = [name for name in fields if name not in left_out]
    schema: Json = {"type": "object", "properties": dict(fields)}
    if required:
        schema["required"] = required
    return told(schema, description) if description else schema


def asked(fields: Mapping[str, Json], *, required: Iterable[str] = ()) -> Json:
    """An object of a request: any other field is refused."""
    schema = record(fields, optional=set(fields) - set(required))
    return {**schema, "additionalProperties": False}


def query(name: str, schema: Json, description: str, *, required: bool = False) -> Json:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": schema,
    }


def path(name: str, description: str) -> Json:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": description,
            "schema": schema}  # fmt: skip


def limit(*, default: int, most: int) -> Json:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return query("limit", schema, "How many, the newest first.")


def body(schema: Json, description: str = "", *, required: bool = True, **more: Any) -> Json:
    """Content-Type is not looked at, so JSON is all there is to name."""
    found: Json = {"required": required, "content": {JSON: {"schema": schema, **more}}}
    return told(found, description) if description else found


def answer(description: str, schema: Json, headers: Json | None = None) -> Json:
    return sent(description, {JSON: {"schema": schema}}, headers)


def sent(description: str, content: Json, headers: Json | None = None) -> Json:
    """A response. All of ours may carry the request's id."""
    return {
        "description": description,
        "headers": {**(headers or {}), "X-Request-ID": REQUEST_ID},
        **({"content": content} if content else {}),
    }


def response(name: str) -> Json:
    return {"$ref": f"#/components/responses/{name}"}


def operation(
    tag: str,
    operation_id: str,
    summary: str,
    responses: Json,
    *,
    description: str = "",
    parameters: Iterable[Json] = (),
    request_body: Json | None = None,
    **more: Any,
) -> Json:
    found: Json = {"tags": [tag], "operationId": operation_id, "summary": summary}
    if description:
        found["description"] = description
    if listed := list(parameters):
        found["parameters"] = listed
    if request_body is not None:
        found["requestBody"] = request_body
    found["responses"] = responses
    return {**found, **more}
