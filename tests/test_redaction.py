"""Who the users are does not stay in what is kept."""

import copy
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.fields import FIELDS
from proxy.rollout.redaction import LEFT_OUT, is_id, is_of_users, redact
from proxy.shapes import make_shapes


def test_ids_of_users_are_left_out_at_every_level() -> None:
    body = {
        "data": [
            {
                "id": "campaign_1",
                "trial_user_ids": ["a", "b"],
                "purchase_user_ids": '["a", "b"]',
                "post_trial_user_ids": None,
                "children": [{"user_details": {"trial_users": ["c"]}, "spend": 3.5}],
            }
        ]
    }
    kept = copy.deepcopy(body)
    assert redact(body) == {
        "data": [
            {
                "id": "campaign_1",
                "trial_user_ids": f"{LEFT_OUT}: 2",
                "purchase_user_ids": LEFT_OUT,
                "post_trial_user_ids": None,
                "children": [{"user_details": f"{LEFT_OUT}: 1", "spend": 3.5}],
            }
        ]
    }
    assert body == kept


@pytest.mark.parametrize(
    "name",
    [
        "trial_user_ids",
        "post_trial_user_ids",
        "converted_user_ids",
        "purchase_refund_user_ids",
        "trialUserIDs",
        "userId",
        "user-id",
        "USER_ID",
        "distinct_id",
        "$distinct_id",
        "distinctIds",
        "device_id",
        "user_details",
        "userDetails",
        "email",
        "user_emails",
        "e-mail",
    ],
)
def test_names_that_tell_users_whatever_they_hold(name: str) -> None:
    assert is_of_users(name)
    assert redact({name: 7}) == {name: LEFT_OUT}


@pytest.mark.parametrize("name", ["users", "trial_users", "newUsers", "customers", "user_list"])
def test_lists_of_users_are_left_out_and_their_counts_stay(name: str) -> None:
    assert redact({name: ["a", "b"]}) == {name: f"{LEFT_OUT}: 2"}
    assert redact({name: {"a": 1}}) == {name: f"{LEFT_OUT}: 1"}
    assert redact({name: 17}) == {name: 17}


def test_the_numbers_and_names_of_an_answer_stay() -> None:
    row: dict[str, Any] = dict.fromkeys({*FIELDS, *make_shapes()["analytics"].fields}, 1.5)
    row |= {"id": "campaign_1", "entity_id": "1", "ad_id": "3", "campaign_name": "A @ b, 5 %"}
    row |= {"device": ["ios"], "breakdowns": [{"type": "device", "values": [{"id": "ios_1"}]}]}
    answer = {"success": True, "data": [row], "metadata": {"query_config": {"group_by": "ad"}}}
    assert redact(answer) == answer


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("for ann@example.com only", f"for {LEFT_OUT} only"),
        ("Ann <ann.b+c@mail.example.co.uk>", f"Ann <{LEFT_OUT}>"),
        ("?who=ann%40example.com", f"{LEFT_OUT}"),
        ("jürgen@exämple.de, x@y.org", f"{LEFT_OUT}, {LEFT_OUT}"),
        ("a @ b", "a @ b"),
        ("50 % @ 3.50", "50 % @ 3.50"),
    ],
)
def test_addresses_are_left_out_of_texts(text: str, kept: str) -> None:
    assert redact({"name": text}) == {"name": kept}
    assert redact([text]) == [kept]


@pytest.mark.parametrize(
    "name",
    [
        "123",
        "-12.5",
        "2024-01-31",
        "2024-01-31T10:00:00Z",
        "ann@example.com",
        "ann%40example.com",
        "campaign_12345",
        "user12345",
        "550e8400-e29b-41d4-a716-446655440000",
        "$device:18f0c2a9-b3d4-11ee",
        "d41d8cd98f00b204e9800998ecf8427e",
        "Xq3dR5aaBBccDDeeFFgg1122",
    ],
)
def test_names_that_stand_for_one_of_many(name: str) -> None:
    assert is_id(name)


def test_the_fields_of_an_answer_are_words_of_a_form() -> None:
    names = {*FIELDS, *make_shapes()["analytics"].fields, *make_shapes()["dashboard"].fields}
    names |= {
        "id",
        "cost_per_click",
        "roas_7d",
        "d30",
        "level_2",
        "facade",
        "revenueAdjusted7d",
        "",
    }
    assert [name for name in names if is_id(name)] == []


def test_addresses_are_left_out_of_names() -> None:
    assert redact({"ann@example.com": 1}) == {LEFT_OUT: 1}


def test_nesting_has_an_end_and_what_is_left_can_be_written() -> None:
    body: object = "ann@example.com"
    for number in range(100_000):
        body = [body] if number % 2 else {"a": body}
    assert LEFT_OUT.encode() in orjson.dumps(redact(body))
    plain: object
    for plain in (None, 1, 1.5, True, "text", [], {}):
        assert redact(plain) == plain


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "id", "x_y"]), inner),
    )
)
def test_nothing_of_users_is_left(inner: object) -> None:
    body = {"user_ids": ["u-17"], "deep": [{"user_details": inner, "x": "u@v.de"}], "other": inner}
    text = repr(redact(body))
    assert "u-17" not in text
    assert "u@v.de" not in text


@pytest.mark.parametrize("text", ["a" * 300_000 + "@", "@a." * 100_000, "a@" * 100_000])
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 2
