"""How far two pictures are apart, whose fonts other versions of a library have drawn."""

from __future__ import annotations

import numpy as np
from PIL import Image
from PIL.ImageFilter import MaxFilter, MinFilter

TOLERANCE = 0.2  # what `difference` makes of the same picture


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean over pixels, in grey levels, of what shifts by one pixel cannot explain."""

    def beyond(a: Image.Image, b: Image.Image) -> np.ndarray:
        parts = (b.filter(MinFilter(3)), a, b.filter(MaxFilter(3)))
        low, value, high = (np.asarray(part, dtype=int) for part in parts)
        return np.maximum(np.maximum(low - value, value - high), 0)

    one, other = one.convert("L"), other.convert("L")
    assert one.size == other.size
    return float(np.maximum(beyond(one, other), beyond(other, one)).mean())
