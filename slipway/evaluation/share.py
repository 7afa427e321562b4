"""How sure a share is. Knows two numbers, and nothing of what was counted."""

from math import sqrt

Z = 1.959964  # of a two-sided 95 % interval


def wilson(hits: float, n: int) -> tuple[float, float]:
    """The 95 % interval of the share hits / n (Wilson 1927): it stays inside 0..1 and is right at 0 and at n, too."""
    share, z2 = hits / n, Z * Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
