"""Registers of the state that a later version has added, carried along unread. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Register:
    """Who set it, as in Stamp, and its `value`: JSON whose meaning is not known here.

    It is ordered as it was set, so that who does not know it can merge it all the same.
    """

    version: int
    at: float
    author: str
    reason: str
    value: bytes


def newest(one: Mapping[str, Register], other: Mapping[str, Register]) -> Mapping[str, Register]:
    """Of each name the register that was set last. Whoever merges with whom comes to the same."""
    if one == other:
        return one
    return {
        name: max(found[name] for found in (one, other) if name in found)
        for name in one.keys() | other.keys()
    }
