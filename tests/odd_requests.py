"""Odd requests by the thousand, the same ones from the same seed: what a scanner, a broken
client or somebody with bad intentions may send."""

import gzip
import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

QUESTIONS = [
    f"{mount}{path}"
    for mount in ("", "/api/dashboard")
    for path in ("/data", "/analytics/data", "/analytics/data/optimized")
]
FOREIGN = ["/", "/static/app.js", "/api/running", "/api/dashboard/analytics/date-range", "/admin"]
OPERATORS = [
    "/health/live", "/health/ready", "/metrics", "/console", "/console/main.js",
    "/admin/status", "/admin/overview", "/admin/pipeline", "/admin/events", "/admin/split",
    "/admin/rollback", "/admin/shadow", "/admin/rollout", "/admin/diffs", "/admin/diffs/x",
    "/admin/contract", "/admin/warm", "/admin/jobs", "/admin/jobs/x", "/admin/cache",
    "/admin/purge", "/admin/rebuild", "/admin/audit", "/admin/explain", "/admin/openapi.json",
]  # fmt: skip
CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "/admin/split": ("POST", {"percent": 50}),
    "/admin/rollback": ("DELETE", {"reason": "odd"}),
    "/admin/shadow": ("POST", {"rate": 0.1}),
    "/admin/rollout": ("POST", {"action": "start"}),
    "/admin/warm": ("POST", {"queries": [{"start_date": "2024-06-21", "end_date": "2024-06-25"}]}),
    "/admin/purge": ("POST", {"start_date": "2024-06-21", "end_date": "2024-06-25"}),
    "/admin/rebuild": ("POST", {"action": "end"}),
}
"""What is not only looked at, with something that is taken."""
METHODS = ["GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND",
           "get", "Post", "X", "CONNECT", "QUERY", "M-SEARCH"]  # fmt: skip
FIELDS = [
    "start_date", "end_date", "hierarchy", "group_by", "breakdown", "depth", "include_sparkline",
    "include_mixpanel", "enable_breakdown_mapping", "shape", "limit", "field", "level", "since",
    "percent", "rate", "action", "queries", "all", "query", "author", "reason", "unknown",
    "", "__proto__", "a\x00b", "\ud800", "é", "x" * 300, "start_date ", "START_DATE", "a.b[c]",
]  # fmt: skip
DAYS = ["2024-06-21", "2024-06-25", "2024-06-25", "2024-06-30", "2024-07-15"]
WORDS = [
    *DAYS, "2024-02-30", "9999-12-31", "0000-00-00", "2024-6-1", "２０２４-06-01", "2024-06-01T00",
    "campaign", "adset", "ad", "all", "country", "region", "device", "dashboard", "analytics",
    "usual", "popular", "start", "pause", "resume", "promote", "abort", "end", "true", "false",
    "", " ", "\x00", "\ud800", "\udfff\ud800", "‮", "🙂", "ｅ́" * 50, "x" * 5000, "'; DROP TABLE x",
    "<script>alert(1)</script>", "../../etc/passwd", "%00", "${jndi:ldap://x}", "{{7*7}}", "NaN",
    "Infinity", "1e999", "-0", "0x10", "1_000", "١٢", "null", "\r\nX-Evil: 1", "a\tb", "\\u0000",
]  # fmt: skip
NUMBERS = [0, 1, 2, 3, 50, 100, 101, -1, 0.5, 1.5, -0.0, 1e308, 5e-324, 2**31, 2**53 + 1, 2**63,
           2**64, 10**30, 10**400, True, False, None]  # fmt: skip
ODD_JSON = [
    b"", b" ", b"{", b"}", b"[]", b"null", b"1", b'"x"', b"NaN", b"Infinity", b"-Infinity",
    b'{"percent":NaN}', b'{"rate":1e999}', b'{"percent":-1e999}', b'{"a":1}{"b":2}', b"\xff\xfe{}",
    b"\xef\xbb\xbf{}", b'{"a":"\xed\xa0\x80"}', b'{"reason":"\\ud800"}', b"{'a':1}", b"{a:1}",
    b"[" * 2000, b"[" * 100_000, b'{"query":' * 1500 + b"1" + b"}" * 1500, b'{"a":' * 800,
    b'{"all":true,"all":false}', b'{"percent":1,"percent":"x"}',
    b'{"percent":' + b"9" * 5000 + b"}",
    b'{"percent":0.' + b"1" * 5000 + b"}", b'{"author":"' + b"a" * 600_000 + b'"}', b"\x00" * 50,
    b"start_date=2024-06-01&end_date=2024-06-30", "{}".encode("utf-16"), "{}".encode("utf-32"),
    b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n", b"<a/>", b"%PDF-1.4",
    b'{"queries":[' + b"{}," * 5000 + b"{}]}", b'{"queries":[[]]}', b'{"queries":[{}]}',
    b" " * (2**20 + 1),
    b'{"queries":[' + b'{"start_date":"2024-06-21","end_date":"2024-06-25"},' * 20 + b"{}]}",
]  # fmt: skip
HEADERS = [
    "X-Request-ID: one", "X-Request-ID: \xff\xfe", "X-Request-ID: " + "x" * 5000,
    "X-Request-ID: a\tb", "X-Request-ID:", "X-Request-ID: %0d%0aX-Evil: 1",
    "Accept-Encoding: gzip", "Accept-Encoding: zstd", "Accept-Encoding: gzip;q=nan,*;q=-1",
    "Accept-Encoding: " + "gzip," * 3000, "Accept-Encoding: \xff", "Accept-Encoding: br;q=1e999",
    "If-None-Match: *", 'If-None-Match: "', "If-None-Match: W/\"x\",, ,*", "If-None-Match: \xff",
    "If-None-Match: " + '"x",' * 2000, "If-Match: *", "If-Modified-Since: never",
    "If-Range: x", "Range: bytes=0-1", "Range: bytes=-1,5-2,", "Range: x=" + "9" * 400,
    "Cookie: session=1", "Cookie: =;;=;\xff", "Cookie: " + "a=b; " * 2000, "Cookie:",
    "X-Dashboard-Variant: legacy", "X-Dashboard-Variant: optimized", "X-Dashboard-Variant: \xff",
    "X-Dashboard-Token: wrong", "X-Dashboard-Token: \xff\x80", "Origin: https://app.example",
    "Origin: null", "Origin: \xed\xa0\x80", "Origin: " + "x" * 9000, "Origin:",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "traceparent: x",
    "traceparent: ff-" + "0" * 32 + "-" + "0" * 16 + "-zz", "traceparent: \xff", "tracestate: a=b",
    "tracestate: " + "a=" * 600, "baggage: a=b;c", "Content-Type: application/json",
    "Content-Type: \xff/;;=", "Content-Type: text/plain; charset=utf-16", "Accept: text/html",
    "Content-Type: multipart/form-data; boundary=", "Accept: \xff", "Cache-Control: no-cache",
    "X-Forwarded-For: 1.2.3.4, \xff", "X-Forwarded-Host: evil", "Forwarded: for=\"[::1]\";;",
    "X-HTTP-Method-Override: DELETE", "Access-Control-Request-Method: POST", "Referer: \xff",
    "Access-Control-Request-Headers: x\xff", "Authorization: Basic \xff", "Authorization: Bearer",
    "Authorization: Bearer \xe2\x82\xac", "Authorization:", "Proxy-Authorization: x",
    "TE: trailers",
    "Expect: 100-continue", "Expect: miracles", "Connection: keep-alive", "Connection: x, close",
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Via: 1.1 x",
    "User-Agent: " + "x" * 3000, "X_Under_Score: 1", "X-Empty:", "Date: \xff", "From: \x80",
    "Max-Forwards: -1", "Sec-Fetch-Site: cross-site", "DNT: 1", "X-\x7f: 1", "Prefer: wait=x",
]  # fmt: skip
HOSTS = ["localhost", "localhost", "127.0.0.1", "evil.example", "a b", "[::1", "[::1]:x",
         "x:99999999",
         "", "\xff", "localhost:-1", "local\thost", "a@b:c@d", "::", "[fe80::1%25lo]", "x/../y",
         "localhost:" + "9" * 300, "." * 300, "xn--\xff", "%6c%6f", "localhost?a#b"]  # fmt: skip
ENCODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("gzip", bytes),
    ("deflate", bytes),
    ("br", bytes),
    ("zstd", bytes),
    ("identity", bytes),
    ("gzip, gzip", bytes),
    ("\xff", bytes),
]


@dataclass(frozen=True, slots=True)
class OddRequest:
    """`is_framed`: its end is clear, so that an answer must come and the connection may go on."""

    data: bytes
    method: str
    target: str
    is_framed: bool = True


class OddRequests:
    """An endless row of them for one of the ports."""

    def __init__(self, paths: Sequence[str], seed: int, *, authorization: str = "") -> None:
        self._random = Random(seed)
        self._paths = paths
        self._authorization = authorization

    def next(self) -> OddRequest:
        request = self._request()
        if self._random.random() < 0.07:
            return self._mutilated(request)
        return request

    def _request(self) -> OddRequest:
        r = self._random
        body = b""
        target = self._path()
        usual, taken = CHANGES.get(target, ("GET" if target in OPERATORS else "POST", {}))
        method = usual
        if r.random() < 0.3:
            method = r.choice(["GET", "POST", "HEAD"]) if r.random() < 0.5 else r.choice(METHODS)
        headers = [f"Host: {r.choice(HOSTS) if r.random() < 0.1 else 'localhost'}"]
        if self._authorization and r.random() < 0.95:
            headers.append(f"Authorization: {self._authorization}")
        if r.random() < 0.4:
            headers += [
                line
                for line in r.sample(HEADERS, r.choice([1, 1, 2, 3, 8]))
                if not (line.startswith("Authorization") and self._authorization)
            ]
        if r.random() < 0.02:
            headers += [f"X-{number}: {number}" for number in range(r.choice([90, 200]))]
        if r.random() < 0.01:
            headers.append("X-Long: " + "x" * r.choice([9000, 70_000]))
        if method != "GET" or r.random() < 0.05:
            body = self._body(taken)
        if (method == "GET" and r.random() < 0.6) or r.random() < 0.05:
            target += self._query()
        if body and r.random() < 0.05:
            coding, encode = r.choice(ENCODERS)
            body = encode(body)
            headers.append(f"Content-Encoding: {coding}")
        if body and r.random() < 0.15:
            headers.append("Transfer-Encoding: chunked")
            body = self._chunked(body)
        elif body or method == "POST":
            headers.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([f"{method} {target} HTTP/1.1", *headers])
        data = head.encode("latin-1", "replace") + b"\r\n\r\n" + body
        return OddRequest(data, method, target)

    def _path(self) -> str:
        r = self._random
        path = r.choice(self._paths)
        if r.random() < 0.85:
            return path
        odd = [
            path + "/", path.upper(), path.replace("/", "//"), path.replace("/", "/./"),
            f"/x/..{path}", path + ";a=b", path.replace("a", "%61"), path.replace("/", "%2f"),
            path + "%00", path + "%", path + "%zz", path + "/%2e%2e/", path + "/..", path + "?",
            path + "\xe9", path + "%ff%fe", path[:-1], path + "x" * r.choice([100, 9000]),
            path + "/" + quote(r.choice(WORDS), safe="", errors="replace"), f"http://x{path}",
            f"//evil{path}", "*", path + "\\..", path + "#a", path + "%0d%0aX-Evil:%201",
        ]  # fmt: skip
        return r.choice(odd)

    def _query(self) -> str:
        r = self._random
        if r.random() < 0.15:
            return r.choice(["?", "?&", "?=", "?a", "?%zz", "?a=%ff", "?;", "??", "?a=b=c&", "?#",
                             "?" + "a=1&" * 100, "?limit=" + "9" * 5000, "?a=" + "x" * 20_000,
                             "?\xff", "?limit=%D9%A1", "?limit=1&limit=2"])  # fmt: skip
        pairs = [f"{name}={day}" for name, day in self._dates()]
        for _ in range(r.choice([0, 0, 0, 0, 1, 2, 5])):
            name = quote(r.choice(FIELDS), errors="replace")
            word = str(r.choice(WORDS)) if r.random() < 0.7 else _text(r.choice(NUMBERS))
            pairs.append(f"{name}={quote(word, safe='', errors='replace')}")
        r.shuffle(pairs)
        return "?" + "&".join(pairs)

    def _dates(self) -> list[tuple[str, str]]:
        r = self._random
        if r.random() < 0.2:
            return []
        return [("start_date", r.choice(DAYS)), ("end_date", r.choice(DAYS))]

    def _body(self, taken: dict[str, Any]) -> bytes:
        r = self._random
        if r.random() < 0.15:
            return r.choice(ODD_JSON)
        pairs: list[tuple[str, Any]] = list(taken.items() or self._dates())
        if r.random() < 0.5:
            return json.dumps(dict(pairs)).encode()
        if r.random() < 0.5:
            known: list[tuple[str, Any]] = [
                ("all", True), ("percent", r.choice(NUMBERS)), ("rate", r.choice(NUMBERS)),
                ("action", r.choice(WORDS)), ("queries", self._value(2)), ("queries", "usual"),
                ("query", dict(self._dates())),
            ]  # fmt: skip
            pairs.append(r.choice(known))
        pairs += [(r.choice(FIELDS), self._value(3)) for _ in range(r.choice([0, 1, 1, 2, 4]))]
        r.shuffle(pairs)
        space = r.choice(["", "", " ", "\n\t"])
        text = ",".join(f"{space}{_json(name, r)}:{_json(value, r)}" for name, value in pairs)
        body = ("{" + text + space + "}").encode("utf-8", "surrogatepass")
        if r.random() < 0.05:
            place = r.randrange(len(body))
            body = body[:place] + r.randbytes(2) + body[place:]
        return body

    def _value(self, depth: int) -> Any:
        r = self._random
        match r.randrange(8):
            case 0 | 1 | 2:
                return r.choice(WORDS)
            case 3 | 4:
                return r.choice(NUMBERS)
            case 5 if depth:
                return [self._value(depth - 1) for _ in range(r.choice([0, 1, 3, 30]))]
            case 6 if depth:
                names = r.sample(FIELDS, r.choice([0, 1, 3]))
                return {name: self._value(depth - 1) for name in names}
            case _:
                return dict(self._dates())

    def _chunked(self, body: bytes) -> bytes:
        size = self._random.choice([1, 7, 1000]) if len(body) < 5000 else 60_000
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        chunks = b"".join(b"%x;e=1\r\n%s\r\n" % (len(part), part) for part in parts)
        return chunks + self._random.choice([b"0\r\n\r\n", b"0\r\nX-Trailer: 1\r\n\r\n"])

    def _mutilated(self, request: OddRequest) -> OddRequest:
        """Some bytes changed, doubled or lost: where it ends, if anywhere, nobody knows."""
        r = self._random
        data = bytearray(request.data)
        for _ in range(r.choice([1, 1, 2, 5])):
            place = r.randrange(len(data))
            match r.randrange(4):
                case 0:
                    data[place] = r.randrange(256)
                case 1:
                    del data[place : place + r.choice([1, 4, 50])]
                case 2:
                    data[place:place] = data[place : place + r.choice([1, 20])]
                case _:
                    data[place:place] = r.choice([b"\r\n", b"\n", b"\x00", b"\r", b" ", b":"])
            if not data:
                data = bytearray(b"\x00")
        return OddRequest(bytes(data), request.method, request.target, is_framed=False)


def _json(value: Any, r: random.Random) -> str:
    return json.dumps(value, ensure_ascii=r.random() < 0.5)


def _text(value: object) -> str:
    return json.dumps(value)[:2000]
