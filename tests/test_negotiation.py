import pytest

from proxy.handlers.negotiation import choose_coding, etag_of, has_already

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.5, gzip;q=0.9", "gzip"),
        ("zstd;q=0.5, gzip;q=0.5", "zstd"),
        ("gzip;q=0", None),
        ("gzip; q=0.000", None),
        ("zstd;q=0, gzip", "gzip"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.4", "gzip"),
        ("gzip;level=9;q=0", None),
        ("gzip;Q=0", None),
        ("gzip;q=", None),
        ("gzip;q=rubbish", None),
        (" , ,gzip,, ", "gzip"),
        (";q=1", None),
        ("gz\udcffip", None),
    ],
)
def test_the_coding_of_highest_weight_is_sent_and_of_equals_our_best(
    accepted: str, chosen: str | None
) -> None:
    assert choose_coding(accepted) == chosen


def test_only_what_is_available_is_chosen() -> None:
    assert choose_coding("zstd, gzip;q=0.1", ["gzip"]) == "gzip"
    assert choose_coding("zstd, gzip", []) is None


def test_each_encoding_of_a_body_has_a_tag_of_its_own() -> None:
    assert etag_of(ETAG, None) == ETAG
    assert etag_of(ETAG, "gzip") == '"abc-gzip"'
    assert len({etag_of(ETAG, coding) for coding in (None, "gzip", "zstd")}) == 3


@pytest.mark.parametrize(
    ("tags", "has"),
    [
        ('"abc"', True),
        ('W/"abc"', True),
        ('"abc-gzip"', True),
        ('"abc-zstd"', True),
        ('"x", "abc" , "y"', True),
        ("*", True),
        (" * ", True),
        ('"abc-br"', False),
        ('"ab"', False),
        ("abc", False),
        ('"ABC"', False),
        ('"x", *', False),
        (",,", False),
        ('w/"abc"', False),
    ],
)
def test_a_caller_has_the_body_when_one_of_its_tags_is_one_of_ours(tags: str, has: bool) -> None:
    assert has_already(tags, ETAG) is has
