"""Gradient estimators: what to put in the backward pass when the forward pass is a step."""

from stelab.estimators.annealed import EDE, NoiseAnnealed, Progressive, SlopeAnnealed
from stelab.estimators.backward import through, wide
from stelab.estimators.base import Estimator, PerExampleLoss, step
from stelab.estimators.baselines import Baseline, LearnedBaseline, MovingAverage, NoBaseline
from stelab.estimators.bernoulli import (
    DARN,
    Bernoulli,
    BernoulliStraightThrough,
    DecoupledStraightThrough,
    ReinMax,
)
from stelab.estimators.control_variates import DoubleControlVariates, MuProp, Rebar, Relax
from stelab.estimators.enumeration import BitFlip, Exact, LocalExpectation
from stelab.estimators.gumbel import BinaryConcrete, GumbelRao, GumbelStraightThrough
from stelab.estimators.multi_evaluation import MultiEvaluation
from stelab.estimators.noise import LogisticNoise, Noise, TriangularNoise, UniformNoise
from stelab.estimators.quantizers import DSQ, EWGS
from stelab.estimators.score_function import ARM, ARMS, DisARM, LeaveOneOut, Reinforce
from stelab.estimators.straight_through import HardtanhClip, Identity, ZeroGradient
from stelab.estimators.surrogates import (
    ApproxSign,
    ClippedInput,
    ClippedReLU,
    ReLU,
    SigmoidSlope,
    Surrogate,
    SwishSign,
    TanhSlope,
)

__all__ = [
    "ARM",
    "ARMS",
    "ApproxSign",
    "Baseline",
    "Bernoulli",
    "BernoulliStraightThrough",
    "BinaryConcrete",
    "BitFlip",
    "ClippedInput",
    "ClippedReLU",
    "DARN",
    "DSQ",
    "DecoupledStraightThrough",
    "DisARM",
    "DoubleControlVariates",
    "EDE",
    "EWGS",
    "Estimator",
    "Exact",
    "GumbelRao",
    "GumbelStraightThrough",
    "HardtanhClip",
    "Identity",
    "LearnedBaseline",
    "LeaveOneOut",
    "LocalExpectation",
    "LogisticNoise",
    "MovingAverage",
    "MuProp",
    "MultiEvaluation",
    "NoBaseline",
    "Noise",
    "NoiseAnnealed",
    "PerExampleLoss",
    "Progressive",
    "ReLU",
    "Rebar",
    "ReinMax",
    "Reinforce",
    "Relax",
    "SigmoidSlope",
    "SlopeAnnealed",
    "Surrogate",
    "SwishSign",
    "TanhSlope",
    "TriangularNoise",
    "UniformNoise",
    "ZeroGradient",
    "step",
    "through",
    "wide",
]
