"""`python -m proxy` is `dashboard-proxy`."""

import sys

from proxy.hang_up import remember_hang_ups


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        remember_hang_ups()
    # Takes most of the time of a start.
    from proxy.cli import main as run

    run()


if __name__ == "__main__":
    main()
