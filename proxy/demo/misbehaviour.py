"""The ways in which the demo's legacy can be made to go wrong while it runs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from random import Random

from proxy.demo.fields import FIELDS, Json, Record


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """What goes wrong in the answers of `/analytics/data`; the default is: nothing.

    `field` is multiplied by `factor` and `missing` left out, at every level.
    `error_rate` of the answers (0 to 1) have `error_status`, each is `slow_s`
    seconds late, every number is up to `noise` (0.1: a tenth) off. `is_empty`
    hides all rows, as a database error does. The last two are habits of the
    real one: child rates in percent, an adset once per ad of it.
    """

    field: str | None = None
    factor: float = 1.0
    missing: str | None = None
    error_rate: float = 0.0
    error_status: int = 500
    slow_s: float = 0.0
    noise: float = 0.0
    is_empty: bool = False
    has_percent_children: bool = False
    has_repeated_adsets: bool = False


def parse_misbehaviour(raw: object) -> Misbehaviour:
    """The misbehaviour that a JSON object describes. ValueError names what is wrong."""
    if not isinstance(raw, dict):
        raise ValueError("a JSON object is needed; {} is good behaviour")
    wanted: dict[str, type] = {
        entry.name: str if entry.default is None else type(entry.default)
        for entry in fields(Misbehaviour)
    }
    for name, value in raw.items():
        if name not in wanted:
            raise ValueError(f"unknown {name}; known are {sorted(wanted)}")
        kind = wanted[name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_absent = kind is str and value is None
        if not (is_absent or (is_number if kind is float else type(value) is kind)):
            raise ValueError(f"{name} has to be {kind.__name__}, not {value!r}")
    found = Misbehaviour(**raw)
    if not 0 <= found.error_rate <= 1:
        raise ValueError(f"error_rate has to be from 0 to 1, not {found.error_rate}")
    if not 400 <= found.error_status <= 599:
        raise ValueError(f"error_status has to be from 400 to 599, not {found.error_status}")
    if found.slow_s < 0 or found.noise < 0:
        raise ValueError("slow_s and noise cannot be negative")
    return found


def spoil(records: list[Record], how: Misbehaviour, rng: Random) -> list[Record]:
    """The records as the misbehaving legacy sends them; those given are left as they are."""
    if how == Misbehaviour(slow_s=how.slow_s, error_rate=how.error_rate):
        return records
    if how.is_empty:
        return []
    return [_spoilt(record, how, rng, depth=0) for record in records]


def _spoilt(record: Mapping[str, Json], how: Misbehaviour, rng: Random, *, depth: int) -> Record:
    spoilt: Record = {}
    for name, value in record.items():
        if name == how.missing:
            continue
        if name in ("children", "breakdowns", "values") and isinstance(value, list):
            rows = [row for row in value if isinstance(row, dict)]
            # A breakdown's rows stand for their entity: they are no children of it.
            below = depth + 1 if name == "children" else depth
            if name == "children":
                rows = [row for row in rows for _ in range(_times(row, how))]
            spoilt[name] = [_spoilt(row, how, rng, depth=below) for row in rows]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            spoilt[name] = _number(name, value, how, rng, is_child=depth > 0)
        else:
            spoilt[name] = value
    return spoilt


def _times(row: Mapping[str, Json], how: Misbehaviour) -> int:
    ads = row.get("children")
    if how.has_repeated_adsets and row.get("entity_type") == "adset" and isinstance(ads, list):
        return len(ads) or 1
    return 1


def _number(
    name: str, value: float, how: Misbehaviour, rng: Random, *, is_child: bool
) -> int | float:
    number: float = value
    if name == how.field:
        number *= how.factor
    if how.noise and name in FIELDS:
        number *= 1 + how.noise * rng.uniform(-1, 1)
    if how.has_percent_children and is_child and name.endswith("_rate"):
        number *= 100
    return round(number) if isinstance(value, int) else round(number, 6)
