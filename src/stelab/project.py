"""What the study engine knows of stelab: all of it is declared here."""

from math import prod

from omegaconf import DictConfig

from stelab.apps.schema import SCHEMAS, contradictions
from stelab.engine.project import Component, Project

_LAYER = (
    *("stelab.binarizer", "stelab.binary_weights", "stelab.ternarizer"),
    *("stelab.estimators", "stelab.thresholds"),
)
_MODULES = ("torch.nn.modules", "torchvision.models", "torchvision.ops")
_MODEL = Component(
    "torch.nn.Module", ("stelab.lab.models", *_LAYER, *_MODULES), "stelab.lab.models"
)
_ESTIMATOR = Component("torch.nn.Module", ("stelab.estimators", "stelab.categorical"))
_LATER = """
better tags from_checkpoint categorical quantizer model.values
"""
_WITHOUT_EFFECT = """
study names tags threads trial checkpoint logger data.root rerun dry_run retries on_failure only
trainer.enable_progress_bar trainer.log_every_n_steps trainer.profiler
"""


def _run_name(cfg: DictConfig) -> str:
    """Return e.g. ``hardtanh_clip-fixed0.25-s1``, or of one-hots ``reinmax-s1``."""
    if cfg.get("categorical"):
        return f"{cfg.names.categorical}-s{cfg.seed}"
    value = cfg.threshold.get("value")
    position = f"{value:g}" if isinstance(value, int | float) else ""
    quantizer = f"{cfg.names.quantizer}-" if cfg.get("quantizer") else ""
    return f"{quantizer}{cfg.names.estimator}-{cfg.names.threshold}{position}-s{cfg.seed}"


PROJECT = Project(
    schemas=SCHEMAS,
    classes={"trainer": "pytorch_lightning.Trainer"},
    apart={
        "scheduler": ("interval", "frequency", "monitor"),
        "trainer": ("step", "tf32", "channels_last"),
    },
    contradictions=contradictions,
    resolvers={
        # Of a code: a trained model's, or those of a problem that is measured.
        "bits": lambda cfg: cfg.model.bits if "model" in cfg else cfg.bits,
        # Of all codes of an image: a tokenizer has a grid of them.
        "bits_of_image": lambda cfg: (
            cfg.model.bits * prod(cfg.model.get("grid") or []) if "model" in cfg else cfg.bits
        ),
        # Of scheduler=cosine, in epochs; None stands for all steps of the run.
        "half_period": lambda cfg: (
            None if cfg.scheduler.get("interval") == "step" else cfg.trainer.max_epochs
        ),
        # Of a job on a cluster.
        "cpus": lambda cfg: 1 if cfg.threads == "auto" else cfg.threads,
    },
    extras={
        "pytorch_lightning.loggers.WandbLogger": "wandb",
        "pytorch_lightning.loggers.MLFlowLogger": "mlflow",
        "stelab.lab.training.mlflow_run.MLflowRun": "mlflow",
    },
    run_name=_run_name,
    without_effect=tuple(_WITHOUT_EFFECT.split()),
    first_values={"threads": 1},
    later_keys={
        **dict.fromkeys(_LATER.split()),
        **dict.fromkeys(("data.mean", "data.std"), 0.5),
        "model.image_shape": [1, 28, 28],
        "model.centre": "half",
        "model.output_bias": "random",
        "model.slope": 0.0,
        "model.grid": [7, 7],
        "trainer.step": "eager",
        "trainer.tf32": False,
        "trainer.channels_last": False,
        "task": {"_target_": "stelab.lab.tasks.Reconstruct"},
    },
    file_keys=("from_checkpoint",),
    named_groups=("estimator", "threshold", "model", "data"),
    groups=("model", "loss", "data", "optimizer", "scheduler", "trainer", "logger", "callbacks"),
    metric="mse",
    losses=("train/loss", "val/loss"),
    panels={"code_health": ("code/dead_bits", "code/entropy", "code/flip_ratio")},
    asides={"code/dead_bits": "dead bits", "estimator/clip_fraction": "clipped"},
    families=("code/", "estimator/"),
    results=("train/", "val/", "test/", "code/"),
    trained="one network with a layer of bits",
    versions=("stelab", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy"),
    components={
        "task": Component("stelab.lab.tasks.Task", ("stelab.lab.tasks",)),
        "model": _MODEL,
        "estimator": _MODEL,
        "threshold": _MODEL,
        "categorical": _MODEL,
        "quantizer": _MODEL,
        "loss": Component("torch.nn.Module", ("stelab.lab.tasks.losses", "torch.nn.modules")),
        "data": Component("stelab.lab.data.ImageDataModule", ("stelab.lab.data",)),
        "optimizer": Component("torch.optim.Optimizer", ("torch.optim",)),
        "scheduler": Component(
            "torch.optim.lr_scheduler.LRScheduler",
            ("torch.optim.lr_scheduler", "stelab.lab.training.schedules"),
        ),
        "logger": Component(
            "pytorch_lightning.loggers.Logger",
            (
                "stelab.lab.training.metrics_file",
                "stelab.lab.training.mlflow_run",
                "pytorch_lightning.loggers",
            ),
        ),
        "callbacks": Component(
            "pytorch_lightning.Callback",
            (
                "stelab.lab.training",
                "stelab.lab.gradients.basket",
                "stelab.lab.gradients.variance",
                "pytorch_lightning.callbacks",
            ),
        ),
        "trainer": Component(
            "pytorch_lightning.profilers.Profiler", ("pytorch_lightning.profilers",)
        ),
    },
    parts={
        "binarizer": Component(
            "torch.nn.Module",
            ("stelab.binarizer", "stelab.categorizer", "stelab.quantizers"),
        ),
        "estimator": _ESTIMATOR,
        "threshold": Component("stelab.thresholds.Threshold", ("stelab.thresholds",)),
        "weights": _ESTIMATOR,
    },
    members={"estimators": _ESTIMATOR},
    products={
        "task": "stelab.lab.tasks.Task",
        "model": "stelab.lab.models.Network",
        "loss": "torch.nn.Module",
        "data": "stelab.lab.data.ImageDataModule",
    },
    moved={
        "stelab.training.GradientBasket": "stelab.lab.gradients.GradientBasket",
        "stelab.models": "stelab.lab.models",
        "stelab.data": "stelab.lab.data",
        "stelab.training": "stelab.lab.training",
        "stelab.gradients": "stelab.lab.gradients",
    },
    imports=(
        "stelab.lab.training.run",
        "torch.utils.tensorboard",
        "matplotlib.backends.backend_agg",
    ),
    train="stelab.apps.train:train_or_return",
    train_stacked="stelab.lab.training.stack:train_stacked",
    kind="stelab.lab.training.stackable:kind",
    lonely="stelab.lab.training.stackable:why_settings_are_alone",
    reconstructions="stelab.lab.training.reconstructions:picture_reconstructions",
    read_codes="stelab.lab.training.codes:encode_projected",
    write_codes="stelab.lab.training.codes:write_projected",
)
