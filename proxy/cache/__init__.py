"""Bytes at rest: what an entry is, how it is encoded, and the tiers that hold it."""
