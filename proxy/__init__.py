"""A read-through cache in front of a marketing dashboard."""

__version__ = "0.1.0"
