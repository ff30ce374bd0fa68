import pytest

from proxy.tracing.wanted import Unsupported, tracing_secrets, wants_tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
TRACES = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        (TRACES, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console, OTLP"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": ""}, True),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, True),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        (
            {
                **ENDPOINT,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            True,
        ),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
)
def test_an_endpoint_asks_for_traces_unless_something_forbids_them(
    environ: dict[str, str], wanted: bool
) -> None:
    assert wants_tracing(environ) is wanted


def test_what_is_not_there_is_named_with_what_it_may_be() -> None:
    assert wants_tracing({**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"}) == Unsupported(
        "OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"
    )
    assert wants_tracing({**TRACES, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) == Unsupported(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"
    )


def test_the_values_of_headers_are_secrets_as_they_are_written_and_as_they_are_sent() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, x-team = numbers,broken,empty=",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "Authorization=Bearer%20c==",
    }
    assert set(tracing_secrets(environ)) == {
        "a%20b", "a b", "numbers", "broken", "Bearer%20c==", "Bearer c==",
    }  # fmt: skip
    assert tracing_secrets({}) == []
