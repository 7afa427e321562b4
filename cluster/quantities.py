"""Kubernetes' quantities as numbers: "500m" is 0.5, "1Gi" is 2**30. Knows the grammar only."""

import re
from typing import Any

SUFFIXES = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
SUFFIXES |= {name: float(2 ** (10 * power)) for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}


def number(text: Any) -> float:
    """Raises ValueError for what is no quantity (k8s.io/apimachinery/pkg/api/resource)."""
    found = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([A-Za-z]{0,2}))", str(text))
    if not found or isinstance(text, bool) or (found[3] or "") not in SUFFIXES:
        raise ValueError(f"{text!r} is no quantity; write e.g. 500m, 2, 512Mi or 1Gi")
    return float(found[1] + (found[2] or "")) * SUFFIXES[found[3] or ""]


def shown(value: float, resource: str) -> str:
    """For people: bytes in binary units, anything else as a plain number."""
    if "memory" in resource or "storage" in resource:
        for power, name in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
            if value >= 2 ** (10 * power):
                return f"{value / 2 ** (10 * power):.4g}{name}"
    return f"{value:.4g}"
