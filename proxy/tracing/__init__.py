"""Traces: where work stands, what it leaves behind, and who is told."""
