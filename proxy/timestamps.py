"""The pipeline's `computed_at` texts: `YYYY-MM-DD HH:MM:SS`, a `T` for the space, microseconds."""

from datetime import datetime, timedelta


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
