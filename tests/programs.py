"""Programs of others that some tests run where the machine has them."""

import os
import shutil

# They live where a plain user's PATH does not lead.
_PLACES = ("/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin")


def program(name: str) -> str | None:
    """The path of `name`; None where it is not there and TESTS_REQUIRE does not name it."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_PLACES))
    found = shutil.which(name, path=path)
    if found is None and name in os.environ.get("TESTS_REQUIRE", "").split():
        raise AssertionError(f"{name} is not there, and TESTS_REQUIRE names it: see .ci/tools")
    return found
