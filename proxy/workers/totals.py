"""Totals: the metrics of several processes as one, which never go back. No I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

Rule = Literal["sum", "max", "min"]
"""How a gauge of several processes becomes one."""
Labels = tuple[tuple[str, str], ...]

_GROWING = ("counter", "histogram", "summary")
_CREATED = "_created"


@dataclass(slots=True)
class Family:
    """One metric: its samples by their own name and labels, in the order they came."""

    documentation: str
    kind: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    @property
    def is_growing(self) -> bool:
        return self.kind in _GROWING


Families = dict[str, Family]


def parse(text: str) -> Families:
    """What /metrics of one process says. Raises ValueError."""
    found: Families = {}
    for metric in text_string_to_metric_families(text):
        family = found.setdefault(metric.name, Family(metric.documentation, metric.type))
        for sample in metric.samples:
            family.samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


class Totals:
    """The sum over the processes there are and those that have left.

    `rules` say how each gauge is put together; one that is not named is a maximum.
    What has grown stays: an older report that comes late takes nothing back.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = rules
        self._left: Families = {}
        self._here: dict[int, Families] = {}

    def report(self, worker: int, text: str) -> None:
        """What `worker` says of itself now. Raises ValueError."""
        said = parse(text)
        known = self._here.get(worker)
        self._here[worker] = said if known is None else _newer(known, said)

    def leave(self, worker: int) -> None:
        """It is gone: what it has counted stays, what it held does not."""
        said = self._here.pop(worker, {})
        kept = {
            name: family
            for name, family in said.items()
            if family.is_growing or name.endswith(_CREATED)
        }
        self._left = self._added([self._left, kept])

    def families(self) -> Families:
        return self._added([self._left, *self._here.values()])

    def sum(self, name: str, worker: int | None = None, **labels: str) -> float:
        """Over the samples `name` that have at least `labels`; of one worker, or of all ever."""
        families = self.families() if worker is None else self._here.get(worker, {})
        return sum(
            value
            for family in families.values()
            for (sample, having), value in family.samples.items()
            if sample == name and labels.items() <= dict(having).items()
        )

    def _added(self, parts: Iterable[Families]) -> Families:
        total: Families = {}
        for part in parts:
            for name, family in part.items():
                into = total.setdefault(name, Family(family.documentation, family.kind))
                rule = "sum" if family.is_growing else self._rule(name)
                for key, value in family.samples.items():
                    before = into.samples.get(key)
                    into.samples[key] = value if before is None else _joined(rule, before, value)
        return total

    def _rule(self, name: str) -> Rule:
        # When the first of them was made: exposed beside each counter as a gauge.
        return "min" if name.endswith(_CREATED) else self._rules.get(name, "max")

    def __repr__(self) -> str:
        return f"<Totals of {sorted(self._here)}>"


def exposition(families: Families) -> bytes:
    """As /metrics gives it."""
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return generate_latest(registry)


class _Collected:
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            metric = Metric(name, family.documentation, family.kind)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _newer(known: Families, said: Families) -> Families:
    for name, family in said.items():
        if family.is_growing and name in known:
            before = known[name].samples
            # Two reports may overtake each other on their way.
            family.samples = {
                key: max(before.get(key, 0.0), family.samples.get(key, 0.0))
                for key in [*before, *(key for key in family.samples if key not in before)]
            }
    return {**known, **said}


def _joined(rule: Rule, one: float, other: float) -> float:
    match rule:
        case "sum":
            return one + other
        case "max":
            return max(one, other)
        case "min":
            return min(one, other)
