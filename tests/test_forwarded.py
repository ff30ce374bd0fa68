"""Header rules of an intermediary."""

import pytest
from multidict import CIMultiDict
from yarl import URL

from proxy.handlers.forwarded import (
    Hop,
    basic_credentials,
    connection_tokens,
    is_websocket,
    request_headers,
    response_headers,
    target_url,
)

HOP = Hop("10.0.0.7", "http", (1, 1))


def onward(*headers: tuple[str, str], hop: Hop = HOP) -> CIMultiDict[str]:
    return request_headers(CIMultiDict(headers), hop)


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "proxy-authenticate",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "UPGRADE",
        "HTTP2-Settings",
    ],
)
def test_hop_by_hop_headers_are_dropped_both_ways(name: str) -> None:
    headers = CIMultiDict([(name, "x"), ("X-Kept", "1")])
    assert name not in request_headers(headers, HOP)
    assert dict(response_headers(headers)) == {"X-Kept": "1"}


def test_headers_named_in_connection_are_dropped_both_ways() -> None:
    headers = CIMultiDict(
        [("Connection", "close, X-Private"), ("connection", "x-Other"), ("X-Private", "1")]
    )
    headers.add("X-Other", "2")
    assert "X-Private" not in request_headers(headers, HOP)
    assert "X-Other" not in request_headers(headers, HOP)
    assert not response_headers(headers)


def test_connection_cannot_take_away_what_we_add() -> None:
    headers = onward(("Connection", "X-Forwarded-For, Via"), ("X-Forwarded-For", "1.1.1.1"))
    assert headers["X-Forwarded-For"] == "10.0.0.7"
    assert headers["Via"] == "1.1 dashboard-proxy"


def test_connection_cannot_take_away_the_length_of_an_answer() -> None:
    headers = CIMultiDict([("Connection", "Content-Length"), ("Content-Length", "5")])
    assert response_headers(headers)["Content-Length"] == "5"


def test_transfer_encoding_overrides_a_content_length() -> None:
    headers = CIMultiDict([("Transfer-Encoding", "chunked"), ("Content-Length", "5")])
    assert not response_headers(headers)


def test_x_forwarded_for_is_appended_to_all_lines_of_it() -> None:
    headers = onward(("X-Forwarded-For", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2"))
    assert headers.getall("X-Forwarded-For") == ["1.1.1.1, 2.2.2.2, 10.0.0.7"]


def test_host_and_scheme_of_the_caller_are_told() -> None:
    headers = onward(("Host", "dash.example:8080"), hop=Hop("::1", "https", (1, 0)))
    assert headers["X-Forwarded-Host"] == "dash.example:8080"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["X-Forwarded-For"] == "::1"
    assert headers["Via"] == "1.0 dashboard-proxy"
    assert "Host" not in headers


def test_what_an_outer_proxy_said_of_the_caller_stands() -> None:
    headers = onward(
        ("Host", "inner"), ("X-Forwarded-Host", "outer"), ("X-Forwarded-Proto", "https")
    )
    assert headers.getall("X-Forwarded-Host") == ["outer"]
    assert headers.getall("X-Forwarded-Proto") == ["https"]


def test_via_is_appended_to() -> None:
    assert onward(("Via", "1.0 fred"))["Via"] == "1.0 fred, 1.1 dashboard-proxy"


def test_a_peer_without_an_address_is_unknown() -> None:
    assert onward(hop=Hop("", "http", (1, 1)))["X-Forwarded-For"] == "unknown"


def test_end_to_end_headers_stay_as_they_are_and_in_order() -> None:
    sent = [("Cookie", "a=1"), ("Accept", "x"), ("accept", "y"), ("Authorization", "Basic Og==")]
    assert list(onward(*sent).items())[:4] == sent


def test_a_testers_token_stays_here_however_it_is_spelled() -> None:
    sent = onward(
        ("X-Dashboard-Token", "a"), ("x-dashboard-token", "b"), ("X-Dashboard-Variant", "legacy")
    )
    assert "X-Dashboard-Token" not in sent
    assert sent["X-Dashboard-Variant"] == "legacy"


def test_several_cookies_stay_several() -> None:
    headers = CIMultiDict([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    assert response_headers(headers).getall("Set-Cookie") == ["a=1", "b=2"]


def test_bytes_that_are_no_utf_8_are_sent_as_latin_1_not_lost() -> None:
    assert onward(("X-Name", "Jos\udce9"), ("X-Utf", "é"))["X-Name"] == "José"


def test_an_upgrade_is_asked_for_anew() -> None:
    headers = CIMultiDict([("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")])
    sent = request_headers(headers, HOP, upgrades=True)
    assert (sent["Connection"], sent["Upgrade"]) == ("Upgrade", "websocket")
    assert "Upgrade" not in request_headers(headers, HOP)


@pytest.mark.parametrize(
    ("method", "version", "upgrade", "connection", "expected"),
    [
        ("GET", (1, 1), "websocket", "Upgrade", True),
        ("GET", (1, 1), "WebSocket", "keep-alive, upgrade", True),
        ("POST", (1, 1), "websocket", "Upgrade", False),
        ("GET", (1, 0), "websocket", "Upgrade", False),
        ("GET", (1, 1), "h2c", "Upgrade", False),
        ("GET", (1, 1), "websocket", "keep-alive", False),
    ],
)
def test_only_a_full_handshake_is_a_websocket(
    method: str, version: tuple[int, int], upgrade: str, connection: str, expected: bool
) -> None:
    headers = CIMultiDict([("Upgrade", upgrade), ("Connection", connection)])
    assert is_websocket(method, version, headers) is expected


def test_connection_tokens_are_split_and_lowered() -> None:
    headers = CIMultiDict([("Connection", " Close ,, X-A"), ("Connection", "b")])
    assert connection_tokens(headers) == {"close", "x-a", "b"}


@pytest.mark.parametrize(
    "raw",
    [
        "/",
        "/a?",
        "/a%2Fb//c",
        "/x?a=b&a=b&c=+%20",
        "/%zz?%",
        "/é?ü=1",
        "//h/x",
        "/a/../b/.",
        "/a#b",
    ],
)
def test_the_target_goes_on_byte_for_byte(raw: str) -> None:
    url = target_url(URL("http://legacy:5001"), raw)
    assert url.raw_path_qs == raw
    assert url.host_port_subcomponent == "legacy:5001"


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("http://other:1/a%2F?b", "/a%2F?b"),
        ("*", "/"),
        ("/\udcff\udc80", "/%FF%80"),
    ],
)
def test_other_forms_of_the_target_are_made_into_a_path(raw: str, target: str) -> None:
    assert target_url(URL("http://legacy"), raw).raw_path_qs == target


def test_a_path_in_the_legacy_url_goes_before() -> None:
    assert target_url(URL("http://legacy/app/"), "/x?y").raw_path_qs == "/app/x?y"


def test_a_user_in_the_legacy_url_becomes_credentials() -> None:
    assert basic_credentials(URL("http://u:p@legacy")) == "Basic dTpw"
    assert basic_credentials(URL("http://legacy")) is None
    assert target_url(URL("http://u:p@legacy"), "/").user is None
