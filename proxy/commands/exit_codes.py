"""The exit codes of every command, for scripts."""

OK = 0
CHECK_FAILED = 1
BAD_USAGE = 2
UNREACHABLE = 3
"""The running proxy cannot be reached, or refused."""
