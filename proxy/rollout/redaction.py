"""What is left out of bodies before they are kept: who the users are. Pure.

By name: `user_details`, ids of users (`trial_user_ids`, `userId`,
`distinct_id`), e-mail addresses, and lists or objects called users
(`trial_users`; their counts stay). By form: an e-mail address in any text or
name.
"""

import re
from functools import lru_cache

LEFT_OUT = "left out"
_DEEPEST = 64
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_PEOPLE = "user|users|customer|customers|profile|profiles|person|people|distinct"
_IDS = re.compile(rf"(?:^|_)(?:{_PEOPLE}|device|anonymous)_?(?:id|ids|uuid|uuids)(?:_|$)")
_MAIL = re.compile(r"(?:^|_)e_?mails?(?:_|$)")
_DETAILS = re.compile(r"(?:^|_)users?_details?(?:_|$)")
_USERS = re.compile(rf"(?:^|_)(?:{_PEOPLE})(?:_list)?$")
_LONGEST_NAME = 200

# Each part is bounded, so that no text takes long however it is made.
_ADDRESS = re.compile(
    r"[^@\s\"'<>,;:()\[\]]{1,64}(?:@|%40)[^@\s\"'<>,;:()\[\]]{1,200}\.[^\W\d_]{2,24}"
)
_ID = re.compile(
    r"""
    ^[-+\d.,:/\sTZ]*\d[-+\d.,:/\sTZ]*$    # a number, a date, a time
    | @ | %40
    | [_\-.:/|#]\d{3,}$                   # campaign_12345
    | ^[A-Za-z]{1,20}\d{3,}$              # user12345
    | (?<![0-9A-Za-z])(?=[0-9a-f-]*\d)[0-9a-f]{8}-?[0-9a-f-]{4,}(?![0-9A-Za-z])   # a hash, a uuid
    | (?<![0-9A-Za-z])(?=[0-9A-Za-z]*\d[0-9A-Za-z]*\d)[0-9A-Za-z]{20,}(?![0-9A-Za-z])  # a token
    """,
    re.VERBOSE | re.IGNORECASE,
)


def redact(body: object) -> object:
    """A copy of parsed JSON without what tells users; the original stays as it is.

    A name stays, with a short text in place of its value, so that it is seen
    that something was there. What is nested deeper than 64 levels is left
    out as a whole.
    """
    return _redacted(body, 0)


def is_of_many_users(name: str) -> bool:
    """Whether an object or a list of this name has something of users in it."""
    return any(_told_by(name[:_LONGEST_NAME]))


def is_id(name: str) -> bool:
    """Whether `name` is one of many that differ in what they stand for, and no word of a form.

    Numbers, dates, addresses, uuids, hashes, tokens, and words that end in a number of more
    than two digits.
    """
    return _ID.search(name[:_LONGEST_NAME]) is not None


def is_of_users(name: str) -> bool:
    """Whether a field of this name tells users, whatever it holds."""
    return _told_by(name[:_LONGEST_NAME])[0]


def _redacted(value: object, depth: int) -> object:
    if isinstance(value, str):
        return _without_addresses(value)
    if not isinstance(value, dict | list):
        return value
    if depth >= _DEEPEST:
        return LEFT_OUT
    if isinstance(value, list):
        return [_redacted(inner, depth + 1) for inner in value]
    return {
        _without_addresses(str(name)): _counted(inner)
        if _is_left_out(str(name), inner)
        else _redacted(inner, depth + 1)
        for name, inner in value.items()
    }


def _is_left_out(name: str, value: object) -> bool:
    always, as_list = _told_by(name[:_LONGEST_NAME])
    return always or (as_list and isinstance(value, dict | list))


@lru_cache(maxsize=1024)
def _told_by(name: str) -> tuple[bool, bool]:
    """Whether a field of this name tells users: whatever it holds; if it holds more than one."""
    # `trialUserIDs` and `trial-user-ids` as `trial_user_ids`.
    plain = "_".join(_WORDS.findall(name.replace("IDs", "Ids"))).lower()
    always = any(pattern.search(plain) for pattern in (_IDS, _MAIL, _DETAILS))
    return always, _USERS.search(plain) is not None


def _without_addresses(text: str) -> str:
    return _ADDRESS.sub(LEFT_OUT, text) if "@" in text or "%40" in text else text


def _counted(value: object) -> object:
    if value is None:
        return None
    return f"{LEFT_OUT}: {len(value)}" if isinstance(value, dict | list) else LEFT_OUT
