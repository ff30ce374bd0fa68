"""The bounds agree with published tables and behave as bounds must."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rollout.wilson import excess_low, wilson

Z95 = 1.959964


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_it_agrees_with_the_published_intervals(
    count: int, n: int, low: float, high: float
) -> None:
    assert wilson(count, n, Z95) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("count", "n", "noise", "noise_n", "low"),
    # Newcombe, Statistics in Medicine 17 (1998), 873-890, table II, method 10.
    [
        (56, 70, 48, 80, 0.0524),
        (9, 10, 3, 10, 0.1705),
        (6, 7, 2, 7, 0.0582),
        (5, 56, 0, 29, -0.0381),
        (0, 10, 0, 20, -0.1611),
        (10, 10, 0, 20, 0.6791),
    ],
)
def test_the_excess_agrees_with_the_published_bounds(
    count: int, n: int, noise: int, noise_n: int, low: float
) -> None:
    assert excess_low(count, n, noise, noise_n, Z95) == pytest.approx(low, abs=5e-5)


def test_nothing_seen_says_nothing() -> None:
    assert wilson(0, 0, 4) == (0, 1)
    assert excess_low(0, 0, 0, 0, 4) == -1
    assert excess_low(20, 20, 0, 0, 4) < 0


samples = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(samples, st.floats(0.5, 6))
def test_the_share_lies_between_the_bounds(sample: tuple[int, int], z: float) -> None:
    count, n = sample
    low, high = wilson(count, n, z)
    assert 0 <= low <= count / n + 1e-12
    assert count / n - 1e-12 <= high <= 1


@given(samples, samples)
def test_more_noise_is_never_more_excess(sample: tuple[int, int], noise: tuple[int, int]) -> None:
    (count, n), (noisy, noise_n) = sample, noise
    bound = excess_low(count, n, noisy, noise_n, 4)
    assert bound <= count / n - noisy / noise_n + 1e-12
    if noisy < noise_n:
        assert excess_low(count, n, noisy + 1, noise_n, 4) <= bound + 1e-9
