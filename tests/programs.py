"""Programs of others that some tests run where the machine has them."""

import os
import shutil

# They live where a plain user's PATH does not lead.
_PLACES = ("/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin")

MISSED: set[str] = set()
"""What was looked for in this run and is not there."""


def program(name: str) -> str | None:
    """The path of `name`; None where it is not there and TESTS_REQUIRE does not name it."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_PLACES))
    found = shutil.which(name, path=path)
    if found is not None:
        return found
    if name in os.environ.get("TESTS_REQUIRE", "").split():
        raise AssertionError(f"{name} is not there, and TESTS_REQUIRE names it: see .ci/tools")
    MISSED.add(name)
    return None


def what_was_missed() -> str:
    names = ", ".join(sorted(MISSED))
    return f"Some tests did without what is not on this machine: {names}. See .ci/tools."
