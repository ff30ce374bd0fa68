"""What one of several workers has of what the settings give to all of them. Pure."""

from proxy.settings import Settings


def share_of(settings: Settings) -> Settings:
    """PROXY_MEMORY_MB is what all may hold together: each has its part, at least 1."""
    memory_mb = max(1, settings.memory_mb // settings.workers)
    return settings.model_copy(update={"memory_mb": memory_mb})
