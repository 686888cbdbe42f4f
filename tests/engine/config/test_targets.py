"""Any class or function that Python imports is a target; what it refuses is one line."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

import stelab
from conftest import Cli
from stelab.engine.config.compose import compose_job, search
from stelab.engine.config.signature import import_signature, read_signature
from stelab.engine.config.validate import validate_node
from stelab.engine.errors import InputError
from stelab.engine.studies import read_run

LOSSES = """
torch.nn.L1Loss: {reduction: none}
torch.nn.MSELoss: {reduction: sum}
torch.nn.SmoothL1Loss: {beta: 0.5}
torch.nn.HuberLoss: {delta: 1}
torch.nn.BCELoss: {}
torch.nn.BCEWithLogitsLoss: {pos_weight: {_target_: torch.tensor, data: [2.0]}}
torch.nn.CrossEntropyLoss: {label_smoothing: 0.1, ignore_index: -1}
torch.nn.NLLLoss: {size_average: null}
torch.nn.PoissonNLLLoss: {log_input: false, full: true}
torch.nn.GaussianNLLLoss: {full: true}
torch.nn.KLDivLoss: {reduction: batchmean, log_target: true}
torch.nn.HingeEmbeddingLoss: {margin: 2}
torch.nn.MarginRankingLoss: {margin: 0.1}
torch.nn.MultiLabelMarginLoss: {}
torch.nn.MultiLabelSoftMarginLoss: {}
torch.nn.MultiMarginLoss: {p: 2}
torch.nn.SoftMarginLoss: {}
torch.nn.CosineEmbeddingLoss: {}
torch.nn.TripletMarginLoss: {p: 2, swap: true}
torch.nn.TripletMarginWithDistanceLoss:
  distance_function: {_target_: torch.nn.PairwiseDistance, p: 1}
torch.nn.CTCLoss: {blank: 1, zero_infinity: true}
torch.nn.AdaptiveLogSoftmaxWithLoss: {in_features: 8, n_classes: 20, cutoffs: [5, 10]}
"""

OPTIMIZERS = """
torch.optim.Adadelta: {rho: 0.8}
torch.optim.Adafactor: {eps: [null, 0.001]}
torch.optim.Adagrad: {}
torch.optim.Adam: {lr: 0.1, betas: [0.8, 0.9], amsgrad: true, foreach: null}
torch.optim.AdamW: {weight_decay: 0}
torch.optim.Adamax: {eps: 1.0e-6}
torch.optim.ASGD: {lambd: 1.0e-4, t0: 10}
torch.optim.LBFGS: {max_iter: 5, line_search_fn: strong_wolfe}
torch.optim.Muon: {lr: 0.02}
torch.optim.NAdam: {momentum_decay: 0.004}
torch.optim.RAdam: {decoupled_weight_decay: true}
torch.optim.RMSprop: {lr: 1, momentum: 0.9, centered: true}
torch.optim.Rprop: {etas: [0.5, 1.2], step_sizes: [1.0e-6, 50]}
torch.optim.SGD: {lr: 0.1, momentum: 0.9, nesterov: true}
torch.optim.SparseAdam: {}
torch.optim.adam.Adam: {lr: {_target_: math.sqrt, _args_: [0.01]}}
"""

SCHEDULERS = """
torch.optim.lr_scheduler.ConstantLR: {factor: 1}
torch.optim.lr_scheduler.CosineAnnealingLR: {T_max: 10}
torch.optim.lr_scheduler.CosineAnnealingWarmRestarts: {T_0: 3, T_mult: 2}
torch.optim.lr_scheduler.CyclicLR: {base_lr: 0.01, max_lr: 0.1, mode: triangular2}
torch.optim.lr_scheduler.ExponentialLR: {gamma: 0.9}
torch.optim.lr_scheduler.LambdaLR: {lr_lambda: {_target_: math.sqrt, _partial_: true}}
torch.optim.lr_scheduler.LinearLR: {start_factor: 0.1, total_iters: 5}
torch.optim.lr_scheduler.MultiStepLR: {milestones: [2, 4], gamma: 0.5}
torch.optim.lr_scheduler.MultiplicativeLR: {lr_lambda: {_target_: math.sqrt, _partial_: true}}
torch.optim.lr_scheduler.OneCycleLR: {max_lr: 0.1, total_steps: 10, anneal_strategy: linear}
torch.optim.lr_scheduler.PolynomialLR: {power: 2}
torch.optim.lr_scheduler.ReduceLROnPlateau: {mode: min, min_lr: [0.001]}
torch.optim.lr_scheduler.StepLR: {step_size: 3}
torch.optim.swa_utils.SWALR: {swa_lr: 0.05}
"""

LAYERS = """
torch.nn.Identity: {anything: 1}
torch.nn.Linear: {in_features: 3, out_features: 2, bias: false}
torch.nn.LazyLinear: {out_features: 2}
torch.nn.Bilinear: {in1_features: 2, in2_features: 3, out_features: 1}
torch.nn.Conv1d: {_args_: [1, 2, 3]}
torch.nn.Conv2d: {in_channels: 1, out_channels: 2, kernel_size: [3, 3], padding: same}
torch.nn.Conv3d: {in_channels: 1, out_channels: 2, kernel_size: 3, padding_mode: circular}
torch.nn.ConvTranspose2d: {in_channels: 1, out_channels: 2, kernel_size: 3, stride: [1, 2]}
torch.nn.LazyConv2d: {out_channels: 2, kernel_size: 3}
torch.nn.Unfold: {kernel_size: [2, 2]}
torch.nn.Fold: {output_size: [4, 4], kernel_size: 2}
torch.nn.MaxPool2d: {kernel_size: [2, 3], ceil_mode: true}
torch.nn.MaxUnpool2d: {kernel_size: 2}
torch.nn.AvgPool2d: {kernel_size: 2, divisor_override: 3}
torch.nn.AdaptiveAvgPool2d: {output_size: [1, null]}
torch.nn.AdaptiveMaxPool2d: {output_size: 1}
torch.nn.FractionalMaxPool2d: {kernel_size: 2, output_ratio: [0.5, 0.5]}
torch.nn.LPPool2d: {norm_type: 2, kernel_size: 2}
torch.nn.ReflectionPad2d: {padding: [1, 1, 2, 2]}
torch.nn.ZeroPad2d: {padding: 1}
torch.nn.ConstantPad2d: {padding: 1, value: 3}
torch.nn.ELU: {}
torch.nn.GELU: {approximate: tanh}
torch.nn.GLU: {dim: 1}
torch.nn.Hardshrink: {}
torch.nn.Hardsigmoid: {}
torch.nn.Hardswish: {}
torch.nn.Hardtanh: {min_val: -2}
torch.nn.LeakyReLU: {negative_slope: 0.2}
torch.nn.LogSigmoid: {}
torch.nn.LogSoftmax: {dim: 1}
torch.nn.Mish: {}
torch.nn.PReLU: {num_parameters: 4}
torch.nn.RReLU: {lower: 0.1}
torch.nn.ReLU6: {inplace: true}
torch.nn.SELU: {}
torch.nn.SiLU: {}
torch.nn.Softmax2d: {}
torch.nn.Softplus: {beta: 2}
torch.nn.Softshrink: {}
torch.nn.Softsign: {}
torch.nn.Tanhshrink: {}
torch.nn.Threshold: {threshold: 0.1, value: 0}
torch.nn.BatchNorm2d: {num_features: 4, momentum: null}
torch.nn.SyncBatchNorm: {num_features: 4}
torch.nn.GroupNorm: {num_groups: 2, num_channels: 4}
torch.nn.InstanceNorm2d: {num_features: 4, affine: true}
torch.nn.LayerNorm: {normalized_shape: [4, 4]}
torch.nn.LocalResponseNorm: {size: 2}
torch.nn.RMSNorm: {normalized_shape: 4, eps: null}
torch.nn.Dropout: {p: 0}
torch.nn.Dropout2d: {p: 1}
torch.nn.AlphaDropout: {}
torch.nn.RNN: {input_size: 3, hidden_size: 4, nonlinearity: relu}
torch.nn.LSTM: {_args_: [3, 4], num_layers: 2, proj_size: 2}
torch.nn.GRU: {input_size: 3, hidden_size: 4, bidirectional: true}
torch.nn.LSTMCell: {input_size: 3, hidden_size: 4}
torch.nn.Transformer: {d_model: 8, nhead: 2, num_encoder_layers: 1, num_decoder_layers: 1}
torch.nn.TransformerEncoderLayer: {d_model: 8, nhead: 2, activation: gelu}
torch.nn.MultiheadAttention: {embed_dim: 8, num_heads: 2, batch_first: true}
torch.nn.Embedding: {num_embeddings: 5, embedding_dim: 3, padding_idx: 0}
torch.nn.Embedding.from_pretrained: {embeddings: {_target_: torch.ones, _args_: [3, 2]}}
torch.nn.EmbeddingBag: {num_embeddings: 5, embedding_dim: 3, mode: sum}
torch.nn.CosineSimilarity: {dim: 0}
torch.nn.PixelShuffle: {upscale_factor: 2}
torch.nn.PixelUnshuffle: {downscale_factor: 2}
torch.nn.ChannelShuffle: {groups: 2}
torch.nn.Upsample: {scale_factor: 2, mode: bilinear, align_corners: false}
torch.nn.UpsamplingNearest2d: {scale_factor: 2}
torch.nn.Flatten: {start_dim: 0}
torch.nn.Unflatten: {dim: 1, unflattened_size: [2, 2]}
torch.nn.Sequential: {_args_: [{_target_: torch.nn.ReLU}, {_target_: torch.nn.Tanh}]}
torch.nn.ModuleList: {modules: [{_target_: torch.nn.ReLU}]}
torch.nn.ModuleDict: {modules: {a: {_target_: torch.nn.ReLU}}}
torch.nn.ParameterList: {values: [{_target_: torch.zeros, _args_: [2]}]}
torch.nn.utils.parametrizations.weight_norm:
  module: {_target_: torch.nn.Linear, in_features: 2, out_features: 2}
torchvision.ops.MLP: {in_channels: 4, hidden_channels: [8, 2], dropout: 0.1}
torchvision.ops.StochasticDepth: {p: 0.1, mode: row}
torchvision.ops.SqueezeExcitation: {input_channels: 4, squeeze_channels: 2}
torchvision.ops.Conv2dNormActivation: {in_channels: 1, out_channels: 2, norm_layer: null}
torchvision.ops.DropBlock2d: {p: 0.1, block_size: 3}
"""

NETWORKS = """
torchvision.models.alexnet: {num_classes: 10}
torchvision.models.convnext_tiny: {}
torchvision.models.densenet121: {memory_efficient: true}
torchvision.models.efficientnet_b0: {dropout: 0.1}
torchvision.models.googlenet: {weights: null, init_weights: false, aux_logits: false}
torchvision.models.inception_v3: {init_weights: false}
torchvision.models.maxvit_t: {}
torchvision.models.mnasnet0_5: {}
torchvision.models.mobilenet_v2: {width_mult: 0.5}
torchvision.models.mobilenet_v3_small: {}
torchvision.models.regnet_y_400mf: {}
torchvision.models.resnet18: {progress: false, num_classes: 10}
torchvision.models.resnet.ResNet:
  block: {_target_: hydra.utils.get_class, path: torchvision.models.resnet.BasicBlock}
  layers: [1, 1, 1, 1]
torchvision.models.resnext50_32x4d: {}
torchvision.models.shufflenet_v2_x0_5: {}
torchvision.models.squeezenet1_1: {}
torchvision.models.swin_t: {}
torchvision.models.vgg11_bn: {init_weights: false}
torchvision.models.vit_b_16: {}
torchvision.models.wide_resnet50_2: {}
torchvision.models.get_model: {name: resnet18, num_classes: 3}
torchvision.models.segmentation.fcn_resnet50: {weights_backbone: null}
torchvision.models.detection.ssdlite320_mobilenet_v3_large: {weights_backbone: null}
torchvision.models.video.r3d_18: {}
"""

TRANSFORMS = """
AugMix: {severity: 2}
AutoAugment: {}
CenterCrop: {size: [20, 20]}
ColorJitter: {brightness: [0.5, 1.5], hue: 0.1}
Compose: {transforms: [{_target_: torchvision.transforms.v2.RandomHorizontalFlip, p: 1}]}
ElasticTransform: {alpha: [10, 10]}
FiveCrop: {size: 8}
GaussianBlur: {kernel_size: [3, 3], sigma: 0.5}
GaussianNoise: {sigma: 0.2}
Grayscale: {num_output_channels: 1}
Identity: {}
JPEG: {quality: [10, 50]}
Lambda: {lambd: {_target_: torch.abs, _partial_: true}}
Normalize: {mean: [0.5], std: [0.5]}
Pad: {padding: [1, 2], fill: 0, padding_mode: edge}
RandAugment: {num_ops: 1}
RandomAdjustSharpness: {sharpness_factor: 2}
RandomAffine: {degrees: 10, translate: [0.1, 0.1]}
RandomApply: {transforms: [{_target_: torchvision.transforms.v2.Identity}], p: 0.3}
RandomChoice: {transforms: [{_target_: torchvision.transforms.v2.Identity}]}
RandomCrop: {size: 28, padding: 2}
RandomErasing: {value: random}
RandomGrayscale: {}
RandomInvert: {p: 0.2}
RandomPerspective: {fill: 1}
RandomPosterize: {bits: 2}
RandomResizedCrop: {size: 28, scale: [0.8, 1]}
RandomRotation: {degrees: [-10, 10], interpolation: {_target_: builtins.int, _args_: [2]}}
RandomSolarize: {threshold: 0.5}
RandomVerticalFlip: {}
RandomZoomOut: {side_range: [1, 2]}
Resize: {size: [28, 28], antialias: true}
ScaleJitter: {target_size: [28, 28]}
ToDtype: {dtype: {_target_: hydra.utils.get_object, path: torch.float32}, scale: true}
ToImage: {}
TrivialAugmentWide: {}
"""

LIGHTNING = """
callbacks.BackboneFinetuning: {unfreeze_backbone_at_epoch: 2}
callbacks.BatchSizeFinder: {mode: binsearch}
callbacks.DeviceStatsMonitor: {cpu_stats: true}
callbacks.EMAWeightAveraging: {decay: 0.99}
callbacks.EarlyStopping: {monitor: val/loss, patience: 3, min_delta: 0}
callbacks.GradientAccumulationScheduler: {scheduling: {4: 2}}
callbacks.LambdaCallback: {on_fit_end: {_target_: builtins.print, _partial_: true}}
callbacks.LearningRateFinder: {num_training_steps: 10}
callbacks.LearningRateMonitor: {logging_interval: step}
callbacks.ModelCheckpoint: {monitor: val/loss, save_top_k: -1, every_n_epochs: 2}
callbacks.ModelPruning: {pruning_fn: l1_unstructured, amount: 0.5}
callbacks.ModelSummary: {max_depth: 2}
callbacks.OnExceptionCheckpoint: {dirpath: .}
callbacks.RichModelSummary: {}
callbacks.RichProgressBar: {}
callbacks.SpikeDetection: {}
callbacks.StochasticWeightAveraging: {swa_lrs: 0.01, swa_epoch_start: 0.5}
callbacks.ThroughputMonitor: {batch_size_fn: {_target_: builtins.len, _partial_: true}}
callbacks.Timer: {duration: "00:12:00:00"}
callbacks.TQDMProgressBar: {refresh_rate: 10}
callbacks.WeightAveraging: {use_buffers: false}
loggers.CSVLogger: {save_dir: ., name: null, version: 3, flush_logs_every_n_steps: 1}
loggers.TensorBoardLogger: {save_dir: ., version: a, max_queue: 5, log_graph: true}
profilers.AdvancedProfiler: {line_count_restriction: 0.5}
profilers.PassThroughProfiler: {}
profilers.PyTorchProfiler: {sort_by_key: cpu_time, row_limit: 5, record_shapes: true}
profilers.SimpleProfiler: {extended: false}
"""

ODD = """
builtins.dict: {a: 1}
builtins.list: {_args_: [[1, 2]]}
builtins.print: {_args_: [], end: ""}
collections.Counter: {a: 2}
collections.OrderedDict: {}
datetime.timedelta: {seconds: 3}
decimal.Decimal: {_args_: ["1.5"]}
fractions.Fraction: {_args_: [1, 3]}
functools.partial.__new__:
  _args_: [{_target_: hydra.utils.get_class, path: functools.partial}]
  _partial_: true
math.gcd: {_args_: [4, 6]}
math.sqrt: {_args_: [4]}
numpy.random.default_rng: {seed: 3}
numpy.zeros: {shape: [2, 3]}
os.path.join: {_args_: [a, b]}
pathlib.Path: {_args_: [a, b]}
random.randint: {a: 1, b: 1}
torch.Generator.seed: {_args_: [{_target_: torch.Generator}]}
torch.Tensor.abs: {_args_: [{_target_: torch.ones, size: [2]}]}
torch.device: {_args_: [cpu]}
torch.distributions.Normal: {loc: 0.0, scale: 1.0}
torch.nn.functional.relu: {input: {_target_: torch.ones, _args_: [2]}, inplace: true}
torch.nn.functional.scaled_dot_product_attention: {_partial_: true, is_causal: true}
torch.nn.init.kaiming_normal_: {tensor: {_target_: torch.zeros, _args_: [2, 2]}}
torch.ones: {_args_: [2, 2], dtype: {_target_: hydra.utils.get_object, path: torch.float64}}
torch.randn: {_args_: [3]}
torch.utils.data.DataLoader: {dataset: [1, 2, 3], batch_size: 2, drop_last: true}
torch.utils.data.TensorDataset: {_args_: [{_target_: torch.zeros, _args_: [3]}]}
torchvision.datasets.FakeData: {size: 3, image_size: [1, 28, 28]}
torchmetrics.MeanSquaredError: {squared: false}
hydra.utils.get_method: {path: math.sqrt}
"""


def nodes(text: str, prefix: str = "") -> list[dict[str, Any]]:
    """Return the nodes of a table of targets and their arguments."""
    return [
        {"_target_": f"{prefix}{t}", **arguments} for t, arguments in yaml.safe_load(text).items()
    ]


PARTS = [
    *(nodes(LOSSES) + nodes(LAYERS) + nodes(NETWORKS)),
    *nodes(TRANSFORMS, "torchvision.transforms.v2."),
    *nodes(LIGHTNING, "pytorch_lightning."),
    *nodes(ODD),
]
TRAINED = [*nodes(OPTIMIZERS), *nodes(SCHEDULERS)]


def build(node: dict[str, Any], **arguments: Any) -> Any:
    """Check a node as a part of a configuration is checked, and build it."""
    cfg = OmegaConf.create({"node": node})
    validate_node(cfg, "node")
    return stelab.build(cfg.node, **arguments)


def test_there_are_enough() -> None:
    assert len({node["_target_"] for node in PARTS + TRAINED}) == len(PARTS + TRAINED) > 230


@pytest.mark.parametrize("node", PARTS, ids=lambda node: node["_target_"])
@pytest.mark.filterwarnings("ignore")  # of lazy modules, experimental transforms, ...
def test_what_python_takes_is_taken(
    node: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Without weights, for speed; a RegNet computes with numbers while it is built.
    meta = "models." in node["_target_"] and "regnet" not in node["_target_"]
    with torch.device("meta" if meta else "cpu"):
        build(node)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A --config-dir with an optimizer, a schedule and a loss for each of the tables' targets."""
    folder = tmp_path_factory.mktemp("conf")
    tables = {"optimizer": OPTIMIZERS, "scheduler": SCHEDULERS, "loss": LOSSES}
    for group, table in tables.items():
        (folder / group).mkdir()
        for node in nodes(table):
            name = node["_target_"].rpartition(".")[2]
            (folder / group / f"{name}.yaml").write_text(yaml.safe_dump(node))
    return folder


def test_they_are_groups_of_a_run(own: Path) -> None:
    with search(str(own)) as loader:
        for path in sorted(own.glob("*/*.yaml")):
            cfg = compose_job(loader, "train", [f"{path.parent.name}={path.stem}"])
            assert cfg[path.parent.name] == yaml.safe_load(path.read_text())


@pytest.mark.parametrize("node", nodes(OPTIMIZERS), ids=lambda node: node["_target_"])
def test_optimizers_take_the_parameters(node: dict[str, Any]) -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    assert build(node, params=[parameter]).param_groups[0]["params"] == [parameter]


@pytest.mark.parametrize("node", nodes(SCHEDULERS), ids=lambda node: node["_target_"])
def test_schedulers_take_the_optimizer(node: dict[str, Any]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)
    assert build(node, optimizer=optimizer).optimizer is optimizer


OWN = '''
"""What people write."""
from __future__ import annotations
import functools
import enum
from dataclasses import dataclass, KW_ONLY
from typing import TYPE_CHECKING

import torch
from torch.optim import *
from stelab.arguments import Positive, checked
from stelab.estimators import HardtanhClip

if TYPE_CHECKING:
    from nowhere import Type

class Mine(torch.optim.Adam):
    pass

class Other(Mine):
    def __init__(self, params, *, lr: "Type", extra: "Type | int" = 3):
        super().__init__(params, lr=lr)

@dataclass
class Settings:
    a: int
    _: KW_ONLY
    b: "Type" = 3

class Made:
    def __new__(cls, *, size: int = 3):
        return [size]

    @classmethod
    def of(cls, words: str, /, *, times=1):
        return words * times

    class Inner:
        def __init__(self, deep):
            self.deep = deep

class Meta(type):
    def __call__(cls, **anything):
        return anything

class Called(metaclass=Meta):
    def __init__(self):
        pass

class Scaled(HardtanhClip):
    @checked
    def __init__(self, *, scale: Positive):
        super().__init__(bound=scale)

class Colour(enum.Enum):
    RED = 1

class Text(str):
    """Not stelab.arguments.Text."""

class Written:
    def __init__(self, *, label: Text, size: list[Text]):
        pass

class Mistyped:
    def __init__(self, *, sizes: dict[Positive]):
        pass

def old_names(function):
    @functools.wraps(function)
    def wrapper(**kwargs):
        return function(new=kwargs.pop("old"))
    return wrapper

@old_names
def renamed(*, new):
    return new

def first(a):
    return a

half = functools.partial(first, a=2)
first = lambda *, b: b
try:
    import nowhere
except ImportError:
    def fallback(*, c):
        return c
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that no other test has imported; its name."""
    name = f"mine_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("Mine", {"lr": 0.1, "amsgrad": True, "_partial_": True}),
        ("Other", {"lr": 0.1, "extra": "x", "_partial_": True}),
        ("Other", {"_partial_": True}),  # what is required comes later
        ("Adam", {"lr": 0.1, "_partial_": True}),  # through a star import
        ("Settings", {"a": "text", "b": [1]}),
        ("Made", {"size": 2.5}),
        ("Made.of", {"_args_": ["ab"], "times": 2}),
        ("Made.Inner", {"deep": {"_target_": "builtins.dict", "a": 1}}),
        ("Called", {"whatever": 1}),
        ("Scaled", {"scale": {"_target_": "math.sqrt", "_args_": [4]}}),
        ("Colour", {"value": 1}),
        ("Written", {"label": 3, "size": ""}),
        ("Mistyped", {"sizes": -1}),  # what is no type decides nothing
        ("renamed", {"old": 1}),
        ("half", {}),
        ("first", {"b": 1}),
        ("fallback", {"c": 1}),
        ("torch.nn.L1Loss", {}),
        ("Made", {"size": {"_target_": "nowhere.Nope"}, "_recursive_": False}),
        ("Settings", {"a": 1, "_convert_": "object"}),
    ],
)
def test_what_source_does_not_say_is_imported(
    target: str, arguments: dict[str, Any], mine: str
) -> None:
    build({"_target_": f"{mine}.{target}", **arguments})


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"_target_": "torch.nn.L1Loss", "reductoin": "none"}, "did you mean 'node.reduction'?"),
        ({"_target_": "torch.nn.L1Los"}, "no 'L1Los' in torch.nn; did you mean 'L1Loss'?"),
        ({"_target_": "torch.optim.Adam", "beta": 1}, "node.beta is not a key here"),
        ({"_target_": "torch.nn.Linear", "in_feature": 1}, "did you mean 'node.in_features'?"),
        ({"_target_": "torchvision.ops.MLP", "in_chanels": 1}, "did you mean 'node.in_channels'?"),
        ({"_target_": "pytorch_lightning.callbacks.Timer", "time": 1}, "node.time is not a key"),
        ({"_target_": "math.sqrt", "x": 4}, "node.x is taken by position only: write it in the"),
        ({"_target_": "math.pi"}, "must be a class or function, but is of type float"),
        ({"_target_": "torch.float32"}, "must be a class or function, but is of type dtype"),
        ({"_target_": "torch.nn"}, "must be a class or function, but is of type module"),
        ({"_target_": "torch.nn.L1Loss.nope"}, "'L1Loss' has no attribute 'nope'"),
        ({"_target_": "torch.nn.Linear"}, "missing 2 required positional arguments"),
        ({"_target_": "torch.nn.Dropout", "p": 2}, "torch.nn.Dropout refuses its arguments: Val"),
        ({"_target_": "torch.nn.Dropout", "p": "a"}, "torch.nn.Dropout refuses its arguments: T"),
        ({"_target_": "torch.nn.ReLU", "_partial_": 3}, "_partial_ flag must be a bool"),
        ({"_target_": "torch.nn.ReLU", "_args_": 3}, "Unsupported _args_ type"),
        ({"_target_": "os.system", "command": "true"}, "os.system refuses its arguments: Target"),
        ({"_target_": "..relative"}, "is not a dotted name"),
        ({"_target_": "MINE.Scaled", "scale": -1}, "node.scale must be greater than 0, got -1"),
        ({"_target_": "MINE.Scaled"}, "node.scale must be given"),
        ({"_target_": "MINE.Scald"}, "there is no 'Scald' in MINE; did you mean 'Scaled'?"),
        ({"_target_": "MINE.Made", "sise": 1}, "did you mean 'node.size'?"),
        ({"_target_": "MINE.Colour.RED"}, "must be a class or function, but is of type Colour"),
        ({"_target_": "MINE.Colour", "value": 2}, "2 is not a valid Colour"),
        ({"_target_": "MINE.Settings"}, "missing 1 required positional argument: 'a'"),
        (
            {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.Linear"}]},
            "torch.nn.modules.linear.Linear refuses its arguments",
        ),
    ],
    ids=str,
)
def test_what_python_refuses_is_one_line(node: dict[str, Any], expected: str, mine: str) -> None:
    node["_target_"] = node["_target_"].replace("MINE", mine)
    with pytest.raises(InputError) as error:
        build(node)
    assert expected.replace("MINE", mine) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (
            {"_target_": "nowhere.Nope"},
            "nowhere.Nope cannot be used: there is no package 'nowhere'",
        ),
        ([{"_target_": "torch.nn.Dropout", "p": 2}], "refuses its arguments: ValueError: dropout"),
        ("torch.nn.ReLU", "torch.nn.ReLU refuses its arguments: Cannot instantiate config of type"),
    ],
)
def test_what_was_not_checked_before_is_told_where_it_is_built(node: Any, expected: str) -> None:
    with pytest.raises(InputError) as error:
        stelab.build(node)
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import nowhere", "its import fails: ModuleNotFoundError: No module named 'nowhere'"),
        ("1 / 0", "its import fails: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "its import fails: SystemExit: 3"),
        ("def (", "module.py:1: its source is broken: "),
        ("return 3", "module.py:1: its source is broken: 'return' outside function"),
        pytest.param("-" * 100_000 + "1", "its import fails: ", id="deep"),
    ],
)
def test_an_import_that_fails_is_one_line(
    source: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{tmp_path.name}_module.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError) as error:
        build({"_target_": f"{tmp_path.name}_module.Net", "x": 3})
    assert str(error.value).startswith("node._target_ cannot be used: ")
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1


MODULES = (
    *("torch", "torch.nn", "torch.nn.functional", "torch.nn.init", "torch.optim.lr_scheduler"),
    *("torch.utils.data", "torch.distributions", "torchvision.models", "torchvision.ops"),
    *("torchvision.transforms.v2", "torchvision.datasets", "pytorch_lightning.callbacks"),
    *("pytorch_lightning.loggers", "pytorch_lightning.profilers", "matplotlib.pyplot"),
    *("builtins", "math", "itertools", "functools", "numpy", "collections", "datetime", "enum"),
)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.filterwarnings("ignore")  # of names that go away
def test_no_public_name_has_its_own_arguments_refused(module: str) -> None:
    """Of whatever types: they are the business of who takes them."""
    public = {n: v for n, v in vars(import_module(module)).items() if not n.startswith("_")}
    for name in (n for n, value in public.items() if callable(value)):
        node = {"_target_": f"{module}.{name}", "_partial_": True}
        for key in import_signature(f"{module}.{name}").annotations:
            node[key] = "text"
        validate_node(OmegaConf.create({"node": node}), "node")


@pytest.mark.parametrize(
    "target", ["torch.optim.Adam", "pytorch_lightning.callbacks.EarlyStopping"]
)
def test_plain_source_and_import_agree(target: str) -> None:
    read, imported = read_signature(target), import_signature(target)
    assert list(read.annotations) == list(imported.annotations)
    assert (read.required, read.open) == (imported.required, imported.open)


def test_plain_targets_are_not_imported(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "print('imported')\nfrom stelab.estimators import HardtanhClip\n\n"
        "class Own(HardtanhClip):\n    def __init__(self, *, own):\n        pass\n"
    )
    conf = tmp_path / "conf" / "estimator"
    conf.mkdir(parents=True)
    (conf / "own.yaml").write_text("_target_: plain.Own\nown: 3\n")
    shown = ("train", "--config-dir", "conf", "estimator=own", "--cfg", "job")
    result = cli(*shown, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "imported" not in result.stdout
    result = cli(*shown[:-2], "estimator.owm=3", PYTHONPATH=str(tmp_path))
    assert result.returncode == 2
    assert "estimator.owm is not a key here; did you mean 'estimator.own'?" in result.stderr


FAST = ("debug=fast", "model=mlp", "model.bits=64")


def test_losses_of_torch_train(cli: Cli, own: Path, tmp_path: Path) -> None:
    sweep = ("train", "-m", "--config-dir", str(own), *FAST, "loss=L1Loss,SmoothL1Loss,HuberLoss")
    result = cli(*sweep, "++loss.reduction=none")
    assert result.returncode == 0, result.stderr
    folders = sorted((tmp_path / "outputs" / "debug").glob("identity-*"))
    runs = [read_run(folder) for folder in folders]
    assert [run.status for run in runs] == ["finished"] * 3
    # Of errors between -2 and 2, the L1 loss is at least half the squared one.
    losses = {run.config["loss"]["_target_"]: run.metrics for run in runs}
    absolute = losses["torch.nn.L1Loss"]
    assert absolute["test/loss"] > absolute["test/mse"] / 2 > 0

    result = cli("train", "--config-dir", str(own), *FAST, "loss=MSELoss", "study=sum")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.endswith("shape (2,), or one an element, but returns (); set loss.reduction=none")
    assert not (tmp_path / "outputs" / "sum").exists()


NETWORK = """
_target_: stelab.lab.models.Autoencoder
encoder:
  _target_: torch.nn.Sequential
  _args_:
  - {_target_: torch.nn.Flatten}
  - {_target_: torch.nn.Linear, in_features: 784, out_features: 16}
binarizer: {_target_: stelab.Binarizer, threshold: "${threshold}", estimator: "${estimator}"}
decoder:
  _target_: torch.nn.Sequential
  _args_:
  - {_target_: torch.nn.Linear, in_features: 16, out_features: 784}
  - {_target_: torch.nn.Unflatten, dim: 1, unflattened_size: [1, 28, 28]}
code_shape: [16]
signed: false
"""


def test_a_network_of_torch_alone_trains_and_is_evaluated(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "own.yaml").write_text(NETWORK)
    fast = ("data=mnist5k", "data.limit=128", "trainer=cpu", "trainer.max_epochs=1")
    result = cli("train", "--config-dir", "conf", "model=own", *fast)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs" / "default").glob("identity-*")
    result = cli("evaluate", f"run={folder}")
    assert result.returncode == 0, result.stderr


def test_mistakes_of_a_command_are_lines(cli: Cli, own: Path, tmp_path: Path) -> None:
    command = ("train", "--config-dir", str(own), *FAST)
    result = cli(
        *command, "+loss.reductoin=none", "loss=L1Loss", "optimizer=Adam", "+optimizer.x=1"
    )
    assert result.returncode == 2
    loss, optimizer = result.stderr.splitlines()
    assert loss == "stelab: loss.reductoin is not a key here; did you mean 'loss.reduction'?"
    assert optimizer.startswith("optimizer.x is not a key here (there are: ")
    result = cli(*command, "model={_target_:torchvision.models.resnet18}")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "outputs").exists()
