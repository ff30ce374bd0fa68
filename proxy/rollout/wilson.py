"""Bounds of shares that were seen in a sample. Pure."""

from math import sqrt


def wilson(count: int, n: int, z: float) -> tuple[float, float]:
    """Wilson's score interval of `count` in `n`; (0, 1) where nothing was seen.

    Wilson, "Probable inference, the law of succession, and statistical
    inference", 1927. `z` is the quantile of the normal distribution.
    """
    if n <= 0:
        return 0.0, 1.0
    share = min(max(count / n, 0.0), 1.0)
    spread = z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def excess_low(count: int, n: int, noise_count: int, noise_n: int, z: float) -> float:
    """Lower bound of how much the share `count` in `n` is above `noise_count` in `noise_n`.

    Newcombe's hybrid score interval for the difference of two independent
    shares, 1998, method 10. From -1 to 1.
    """
    if n <= 0:
        return -1.0
    share, noise = count / n, noise_count / noise_n if noise_n else 0.0
    low, _ = wilson(count, n, z)
    _, high = wilson(noise_count, noise_n, z)
    return max(-1.0, share - noise - sqrt((share - low) ** 2 + (high - noise) ** 2))
