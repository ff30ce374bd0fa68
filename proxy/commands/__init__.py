"""What each command of `dashboard-proxy` does. The list of them is in cli.py."""
