"""Turns what pydantic found into texts for operators: the name, the value, what it may be."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from proxy.settings_values import Allowed, show

Place = tuple[int | str, ...]
"""Where a value stands: the setting, then keys and positions inside it."""


def table_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model`, `Model | None`, `tuple[Model, ...]` or `Mapping[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (table_in(part) for part in get_args(annotation))
    return next((table for table in found if table is not None), None)


def words_of(field: FieldInfo) -> str:
    """What a field may be: its own words, else the values of its Literal, else a table."""
    for item in field.metadata:
        if isinstance(item, Allowed):
            return item.words
    if get_origin(field.annotation) is Literal:
        return " or ".join(map(str, get_args(field.annotation)))
    return "a list of tables" if get_origin(field.annotation) is tuple else "a table"


def hint(name: str, known: Iterable[str]) -> str:
    """` Did you mean X?` with the nearest known name, or nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""


def explain(
    error: ValidationError, root: type[BaseModel], name_of: Callable[[Place], str]
) -> list[str]:
    """One sentence for each thing that is wrong. `name_of` says how the operator wrote it."""
    return [_sentence(detail, root, name_of) for detail in error.errors(include_url=False)]


def dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _sentence(detail: ErrorDetails, root: type[BaseModel], name_of: Callable[[Place], str]) -> str:
    place = detail["loc"]
    if detail["type"] == "extra_forbidden":
        table, _ = _walk(place[:-1], root)
        known = table.model_fields if table is not None else ()
        return f"{name_of(place)} is no known setting.{hint(str(place[-1]), known)}"
    table, field = _walk(place, root)
    if detail["type"] == "value_error" and (field is None or table is not None):
        # A rule over several fields: the model's own words say it all.
        reason = detail["ctx"]["error"]
        return f"{name_of(place)} {reason}" if place else str(reason)
    words = words_of(field) if field is not None else "something else"
    if detail["type"] == "missing":
        return f"{name_of(place)} is missing: it may be {words}"
    metadata = field.metadata if field is not None else []
    return f"{name_of(place)} is {show(detail['input'], metadata)}: it may be {words}"


def _walk(place: Place, root: type[BaseModel]) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The table that a place leads into, if any, and the last field passed on the way."""
    table: type[BaseModel] | None = root
    field: FieldInfo | None = None
    for part in place:
        fields: Mapping[Any, FieldInfo] = table.model_fields if table is not None else {}
        if part in fields:
            field = fields[part]
            table = table_in(field.annotation)
    return table, field
