"""The pipeline's `computed_at` texts: `YYYY-MM-DD HH:MM:SS`, a `T` for the space, microseconds."""

from datetime import UTC, datetime, timedelta


def newer(one: str | None, other: object) -> str | None:
    """The later of two texts, whichever way each is spelt. None is older than any."""
    if other is None:
        return one
    text = str(other)
    if one is None or _order(text) > _order(one):
        return text
    return one


def _order(text: str) -> tuple[str, str]:
    # The spelling comes second: of one moment spelt two ways the same is named in every process.
    return text.replace("T", " "), text


def before(text: str, hours: float) -> str:
    """A text that sorts before every spelling of `hours` earlier; `text` if it is no time."""
    try:
        earlier = datetime.fromisoformat(text) - timedelta(hours=hours)
    except (ValueError, OverflowError):
        return text
    return earlier.replace(tzinfo=None).isoformat(" ", "minutes")


def is_later(one: str | None, other: str | None) -> bool:
    """Whether `one` names a later moment than `other`, whichever way each is spelt."""
    return one is not None and (other is None or _order(one)[0] > _order(other)[0])


def epoch_s(text: str | None) -> float | None:
    """Seconds since the epoch; None for what is no time. Without a zone it is UTC, as in SQLite."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
