"""Carrying traffic from the legacy API to the optimized one."""
