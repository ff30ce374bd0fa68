"""The project's own errors. Adapters translate foreign exceptions into these."""


class ProxyError(Exception):
    """Root of everything the proxy raises on purpose."""


class RequestError(ProxyError):
    """The caller's fault: a parameter is wrong. The text names it and what it may be."""


class SettingsError(ProxyError):
    """The operator's fault: settings or the database are not what they have to be."""


class StoreError(ProxyError):
    """A cache tier could not be asked. Never to be taken for "not there"."""


class BackendError(ProxyError):
    """A source of answers failed. `reason` is a word for metrics and headers."""

    def __init__(self, message: str, *, reason: str = "error") -> None:
        super().__init__(message)
        self.reason = reason


class BackendUnavailable(BackendError):
    """The source is not there: 502 or 503 when no other can answer.

    With `retry_after_s` it was not even asked, and will not be before that.
    """

    def __init__(
        self, message: str, *, reason: str = "unavailable", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class BackendTimeout(BackendError):
    """The source took longer than its limit: 504 when no other can answer."""

    def __init__(self, message: str, *, reason: str = "timeout") -> None:
        super().__init__(message, reason=reason)
