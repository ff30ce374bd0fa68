"""`python -m proxy` is `dashboard-proxy`."""

from proxy.cli import main

main()
