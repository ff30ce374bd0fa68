"""What the environment asks of tracing, by OpenTelemetry's own variables. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_EXPORTER = "OTEL_TRACES_EXPORTER"
_PROTOCOL = "http/protobuf"


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A variable that asks for what is not there, and what it may be."""

    name: str
    value: str
    may_be: str


def wants_tracing(environ: Mapping[str, str]) -> bool | Unsupported:
    """Whether spans are to be sent. An empty variable counts as not set.

    An endpoint asks for it, and so does OTEL_TRACES_EXPORTER=otlp; with `none`,
    or OTEL_SDK_DISABLED=true, nothing is sent whatever else is set.
    """
    given = {name: text for name, value in environ.items() if (text := value.strip())}
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporters = [word.strip().lower() for word in given.get(_EXPORTER, "").split(",")]
    if exporters == ["none"]:
        return False
    if exporters != [""] and "otlp" not in exporters:
        return Unsupported(_EXPORTER, given[_EXPORTER], "otlp or none")
    if exporters == [""] and not any(name in given for name in _ENDPOINTS):
        return False
    protocol = next((name for name in _PROTOCOLS if name in given), None)
    if protocol is not None and given[protocol].lower() != _PROTOCOL:
        return Unsupported(protocol, given[protocol], _PROTOCOL)
    return True


def tracing_secrets(environ: Mapping[str, str]) -> list[str]:
    """What must not stand in a log: the values of the headers that spans are sent with."""
    found = []
    for name in _HEADERS:
        for pair in environ.get(name, "").split(","):
            # One that is no pair is shown when the SDK complains about it.
            value = (pair.partition("=")[2] if "=" in pair else pair).strip()
            found += [text for text in (value, unquote(value)) if text]
    return found
