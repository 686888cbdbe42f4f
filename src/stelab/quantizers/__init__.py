"""Quantizers of image tokenizers, whose rounding is done by a `stelab.Binarizer`."""

from stelab.quantizers.base import Quantizer
from stelab.quantizers.finite_scalar import FiniteScalarQuantizer
from stelab.quantizers.lookup_free import LookupFreeQuantizer
from stelab.quantizers.spherical import BinarySphericalQuantizer

__all__ = [
    "BinarySphericalQuantizer",
    "FiniteScalarQuantizer",
    "LookupFreeQuantizer",
    "Quantizer",
]
