"""Log lines as people read them."""

import re
from datetime import datetime
from typing import Any

import pytest

from proxy.logs_human import HumanRenderer, printable

AT = "2024-06-30T12:34:56.789012Z"


def line(is_coloured: bool = False, **fields: Any) -> str:
    event = {"timestamp": AT, "level": "info", "event": "pipeline_wrote", **fields}
    return HumanRenderer(is_coloured=is_coloured)(None, "info", event)


def test_a_line_is_time_level_event_and_the_rest_in_order() -> None:
    local = datetime.fromisoformat(AT).astimezone().strftime("%H:%M:%S.789")
    assert line(request_id="r1", route="data", ms=1.5, is_new=True) == (
        f"{local} info     pipeline wrote       route=data ms=1.5 is_new=true request_id=r1"
    )


def test_lines_without_more_to_say_end_with_their_words() -> None:
    assert line(event="stopping").endswith(" stopping")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", 'x="two words"'),
        ('say "a"', r'x="say \"a\""'),
        ("a=b", 'x="a=b"'),
        ("/path%20x?q[]", "x=/path%20x?q[]"),
        ("zwölf", "x=zwölf"),
        (["a", 1], 'x=["a", 1]'),
        ({"a": {"b": None}}, 'x={"a": {"b": null}}'),
        (0, "x=0"),
        (False, "x=false"),
        ("two\nlines", r'x="two\nlines"'),
        ("\x1b[31mred\x9b", r'x="\u001b[31mred\x9b"'),
        ("\u202eabc\u2028", r'x="\u202eabc\u2028"'),
        ("\udc80", r'x="\udc80"'),
    ],
)
def test_values_are_bare_where_they_can_be_and_escaped_where_they_must(
    value: object, shown: str
) -> None:
    assert line(x=value).endswith(f" {shown}")


@pytest.mark.parametrize("value", ["", None, [], {}])
def test_empty_values_are_left_out(value: object) -> None:
    assert "x" not in line(x=value)


def test_a_traceback_stands_below_its_line() -> None:
    text = 'Traceback (most recent call last):\n  File "x"\nValueError: \x1b[31mno'
    first, *below = line(level="error", event="failed", exception=text, port=1).splitlines()
    assert first.endswith("failed               port=1")
    assert below == [
        "    Traceback (most recent call last):",
        '      File "x"',
        "    ValueError: \\x1b[31mno",
    ]


def test_an_event_of_several_lines_cannot_pass_for_several_events() -> None:
    first, second = line(event="Task failed\n12:00:00.000 info forged").splitlines()
    assert first.endswith("Task failed")
    assert second == "    12:00:00.000 info forged"


def test_words_of_others_stay_as_they_are() -> None:
    assert "snake_case in prose" in line(event="snake_case in prose")


def test_only_what_is_asked_for_is_coloured() -> None:
    assert "\x1b" not in line(x=1)
    coloured = line(is_coloured=True, x="\x1b[31m", level="error")
    plain = re.sub("\x1b\\[[0-9;]*m", "", coloured)
    assert plain == line(x="\x1b[31m", level="error")
    assert coloured != plain
    assert coloured.count("\x1b[0m") == len(re.findall("\x1b\\[[0-9;]*[1-9]m", coloured))


def test_a_time_that_is_none_does_no_harm() -> None:
    assert HumanRenderer(is_coloured=False)(None, "info", {"event": "x"}) == "info     x"


def test_printable_text_is_not_touched() -> None:
    assert printable("zwölf €") == "zwölf €"
    assert printable("a\tb\r\n\x00") == r"a\tb\r\n\x00"
