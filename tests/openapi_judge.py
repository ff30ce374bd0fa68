"""Holds answers to an OpenAPI document: status, content type, headers and every field."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import orjson
from jsonschema import Draft202012Validator, FormatChecker

Json = dict[str, Any]

OF_EVERY_ANSWER = {"content-length", "content-type", "date", "server", "content-encoding"}
"""Headers that HTTP itself gives: the document does not repeat them."""
OF_ERRORS = {"connection"}


class Judge:
    """Asserts that an answer is one of those that `document` tells of.

    An object may have no field that its schema does not name, though readers
    are told to expect more.
    """

    def __init__(self, document: Json) -> None:
        self.document = document
        self._closed = closed(document)
        self._paths = [(re.compile(_pattern(path)), path) for path in document["paths"]]

    def judge(
        self, method: str, target: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        path = self.path_of(target)
        told = self._closed["paths"][path]["get" if method == "HEAD" else method.lower()]
        word = str(status) if str(status) in told["responses"] else "default"
        assert word in told["responses"], f"{method} {target}: {status} is not told of: {body!r}"
        response = self._resolved(told["responses"][word])
        if word == "default":
            return
        where = f"{method} {target}: {status}"
        self._judge_headers(where, response, {n.lower(): v for n, v in headers.items()}, status)
        content = response.get("content")
        if content is None or method == "HEAD":
            assert not body, where
            return
        media = headers["Content-Type"].partition(";")[0]
        assert media in content or "*/*" in content, f"{where}: {media}"
        if media == "application/json" and media in content:
            self.validate(content[media]["schema"], orjson.loads(body), where)

    def validate(self, schema: Json, instance: object, where: str) -> None:
        whole = {**schema, "components": self._closed["components"]}
        validator = Draft202012Validator(whole, format_checker=FormatChecker())
        errors = [f"{error.json_path}: {error.message[:300]}" for error in
                  validator.iter_errors(instance)]  # fmt: skip
        assert not errors, f"{where}: {errors[:5]}"

    def path_of(self, target: str) -> str:
        path = unquote(target.partition("?")[0])
        exact = [known for pattern, known in self._paths if known == path]
        fitting = exact or [known for pattern, known in self._paths if pattern.fullmatch(path)]
        assert fitting, f"{path} is not told of"
        return str(fitting[0])

    def _judge_headers(
        self, where: str, response: Json, headers: Mapping[str, str], status: int
    ) -> None:
        told = {name.lower(): header for name, header in response.get("headers", {}).items()}
        needed = {name for name, header in told.items() if header.get("required")}
        assert needed <= headers.keys(), f"{where}: lacks {needed - headers.keys()}"
        if headers.get("x-dashboard-source") == "legacy":
            # The rest of them is the legacy's own.
            return
        known = told.keys() | OF_EVERY_ANSWER | (OF_ERRORS if status >= 400 else set())
        assert headers.keys() <= known, f"{where}: not told of: {headers.keys() - known}"
        for name in told.keys() & headers.keys():
            schema = told[name]["schema"]
            value = headers[name]
            self.validate(schema, int(value) if schema.get("type") == "integer" else value, where)

    def _resolved(self, response: Json) -> Json:
        if "$ref" not in response:
            return response
        found: Json = self._closed["components"]["responses"][response["$ref"].split("/")[-1]]
        return found


def closed(part: Any) -> Any:
    """A copy in which no object has more fields than are named."""
    if isinstance(part, list):
        return [closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    copy = {name: closed(value) for name, value in part.items()}
    if part.get("type") == "object" and "properties" in part:
        copy.setdefault("additionalProperties", False)
    return copy


def _pattern(path: str) -> str:
    return re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path))
