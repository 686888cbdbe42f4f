r"""Random numbers that are a function of counters: Philox4x32-10.

Ten rounds turn a counter of four 32-bit words into four others, as random as any, by a key of two:

.. math:: (c_0, c_1, c_2, c_3) \mapsto (\mathrm{hi}(M_1 c_2) \oplus c_1 \oplus k_0,\;
   \mathrm{lo}(M_1 c_2),\; \mathrm{hi}(M_0 c_0) \oplus c_3 \oplus k_1,\; \mathrm{lo}(M_0 c_0)),

with hi and lo the upper and lower half of a product, and :math:`(k_0, k_1)` raised by
:math:`(W_0, W_1)` from round to round. Here two words share one int64, whose arithmetic wraps
modulo :math:`2^{64}`.

References:
    [Salmon2011] Salmon, Moraes, Dror, Shaw (2011), "Parallel Random Numbers: As Easy as 1, 2, 3".
"""

import torch
from torch import Tensor

ROUNDS = 10
M0, M1 = 0xD2511F53, 0xCD9E8D57
W0, W1 = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF


def philox4x32(counters: Tensor, key: Tensor | int) -> Tensor:
    """Compute Philox4x32-10 of many counters.

    Args:
        counters: int64, ``(2, n)``: ``c0 << 32 | c1`` in the first row, ``c2 << 32 | c3`` in the
            second.
        key: ``k1 << 32 | k0``, int64 and 0-dimensional if it is a tensor.

    Returns:
        The four words, as `counters`.
    """
    # Constants of two entries by arange: made on the device, where a list would be copied to it.
    device = counters.device
    factors = torch.arange(M0, M1 - 1, M1 - M0, device=device).unsqueeze(1)
    raises = torch.arange(W0, W1 + 1, W1 - W0, device=device)
    words = key >> torch.arange(0, 64, 32, device=device)
    keys = (words + torch.arange(ROUNDS, device=device).unsqueeze(1) * raises) << 32
    for k in keys.unsqueeze(2).unbind():
        products = (counters >> 32 & _LOW) * factors
        counters = products.flip(0) ^ (counters << 32) ^ k
    return counters


def in_unit_interval(words: Tensor) -> Tensor:
    """Map words of 32 bits in int64 to float32 in the open interval (0, 1), in their order."""
    return ((words.float() + 0.5) * 2**-32).clamp_max(1 - 2**-24)  # the largest round to 1


class Philox:
    """A source of random numbers for one step, which needs no state from the steps before it.

    Estimators take it wherever they take a `torch.Generator`. Its numbers are a function of the
    seed, the step, the stream, how many draws came before in this step, and the position in the
    tensor that is drawn, and of nothing else. So a run that was stopped continues with the numbers
    that it would have seen, on any device; with tensors for seed and step, a compiled or captured
    step has none of them built in; and under `torch.vmap` each run draws by its own seed what it
    would have drawn alone.

    Args:
        seed: The key, any int64.
        step: 0 to 2**31 - 1.
        stream: Tells apart what is drawn in the same step, such as the processes' parts of a batch;
            0 to 2**32 - 1.

    All may be 0-dimensional tensors of int64.

    Example:
        >>> import torch
        >>> from stelab import Philox
        >>> from stelab.estimators import ReinMax
        >>> estimator, logits = ReinMax(temperature=1.0), torch.zeros(1, 6)
        >>> estimator(logits, generator=Philox(seed=0, step=7)).tolist()
        [[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]]
    """

    def __init__(self, seed: Tensor | int, step: Tensor | int, stream: Tensor | int = 0):
        self.seed = seed
        self.step = step
        self.stream = stream
        self.draws = 0

    def __repr__(self) -> str:
        """Return the constructor's call, and how far it is."""
        return f"Philox({self.seed!r}, {self.step!r}, {self.stream!r}), {self.draws} draws"

    def uniform(self, shape: torch.Size, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Draw from the open interval (0, 1).

        In float32 they come from 32 bits each, in float64 from 52; ``u < p`` has probability p up
        to 2**-24 (the better the smaller p) or 2**-53.

        Args:
            shape: Of what is drawn.
            dtype: float32 or float64.
            device: Where it is drawn.
        """
        numel = shape.numel()
        if dtype == torch.float64:
            bits = self._next(-(-numel // 2), device) >> 12 & 2**52 - 1
            u = (bits.t().to(dtype) + 0.5) * 2**-52
        else:
            pairs = self._next(-(-numel // 4), device).t()
            u = in_unit_interval(torch.stack((pairs >> 32 & _LOW, pairs & _LOW), 2))
        return u.reshape(-1)[:numel].reshape(shape)

    def _next(self, blocks: int, device: torch.device) -> Tensor:
        """Return the next draw's words, ``(2, blocks)``, see `philox4x32`."""
        position = torch.arange(blocks, device=device)
        counters = (position << 32) + self.draws, position * 0 + ((self.step << 32) + self.stream)
        self.draws += 1
        return philox4x32(torch.stack(counters), self.seed)
