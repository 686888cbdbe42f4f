"""Networks with a binary bottleneck."""

from stelab.lab.models.autoencoder import Autoencoder
from stelab.lab.models.classifiers import Classifier, binary_conv, binary_mlp
from stelab.lab.models.grid import grid
from stelab.lab.models.logits import Logits, logits_bernoulli, logits_categorical
from stelab.lab.models.network import Network
from stelab.lab.models.networks import conv, mlp, tutorial
from stelab.lab.models.tokenizers import Tokenizer, tokenizer
from stelab.lab.models.vae import VAE, vae_bernoulli, vae_categorical

__all__ = [
    "VAE",
    "Autoencoder",
    "Classifier",
    "Logits",
    "Network",
    "Tokenizer",
    "binary_conv",
    "binary_mlp",
    "conv",
    "grid",
    "logits_bernoulli",
    "logits_categorical",
    "mlp",
    "tokenizer",
    "tutorial",
    "vae_bernoulli",
    "vae_categorical",
]
