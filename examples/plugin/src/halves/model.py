"""A network from one half of an image to the other."""

from torch import Tensor, nn

from stelab import Binarizer
from stelab.arguments import Count, checked
from stelab.lab.models import Network

HALF = (1, 14, 28)


class HalfToHalf(Network):
    """392 - hidden - bits - hidden - 392: upper halves in [0, 1] to logits of the lower ones.

    Args:
        binarizer: The binary layer.
        bits: Bits a code; codes have shape ``(bits,)``.
        hidden: Width of the hidden layer on each side.
    """

    @checked
    def __init__(self, *, binarizer: Binarizer, bits: Count, hidden: Count):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(392, hidden), nn.ReLU(), nn.Linear(hidden, bits)
        )
        self.binarizer = binarizer
        self.decoder = nn.Sequential(
            nn.Linear(bits, hidden), nn.ReLU(), nn.Linear(hidden, 392), nn.Unflatten(1, HALF)
        )

    def decode(self, code: Tensor) -> Tensor:
        """Return the logits of lower halves, ``(batch, 1, 14, 28)``."""
        logits: Tensor = self.decoder(code)
        return logits
