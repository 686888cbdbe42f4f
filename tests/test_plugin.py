"""An estimator of a stranger: a class on PYTHONPATH, a YAML file in a folder of their own."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from conftest import Cli

CLASS = '''
"""A straight-through estimator that shrinks."""

from stelab.arguments import Positive, checked
from stelab.estimators import Estimator, step, through


class Shrunk(Estimator):
    @checked
    def __init__(self, *, factor: Positive):
        super().__init__()
        self.factor = factor

    def forward(self, s, *, bits=None, generator=None):
        return through(s, step(s) if bits is None else bits, s.new_full(s.shape, self.factor))
'''
YAML = "# Straight-through, shrunk.\n_target_: stranger.shrunk.Shrunk\nfactor: 0.5\n"


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    package = tmp_path / "code" / "stranger"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "shrunk.py").write_text(CLASS)
    group = tmp_path / "groups" / "estimator"
    group.mkdir(parents=True)
    (group / "shrunk.yaml").write_text(YAML)
    return tmp_path


def test_it_trains_sweeps_and_is_measured(cli: Cli, stranger: Path) -> None:
    environment = {"PYTHONPATH": str(stranger / "code")}
    groups = ("--config-dir", str(stranger / "groups"))
    sweep = ("-m", "estimator=shrunk,identity", "debug=fast", "model=mlp", "seed=0,1")
    result = cli("train", *groups, *sweep, **environment)
    assert result.returncode == 0, result.stderr
    names = [path.parent.name for path in stranger.glob("outputs/debug/*/run.json")]
    assert len(names) == 4
    assert sum(name.startswith("shrunk-fixed0-s") for name in names) == 2
    assert (stranger / "outputs" / "debug" / "reconstructions.png").exists()
    assert "No reconstructions" not in result.stdout

    (run, *_) = stranger.glob("outputs/debug/shrunk-*")
    refused = cli("evaluate", f"run={run}", **environment)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "model.binarizer.estimator._target_ is stranger.shrunk.Shrunk" in line
    assert "trust=PACKAGE" in line
    evaluated = cli("evaluate", f"run={run}", "trust=stranger", **environment)
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated.stdout.startswith("test/loss ")
    for trust, drawn in (([], False), (["trust=stranger"], True)):
        compared = cli("compare", "study=debug", *trust, **environment)
        assert compared.returncode == 0, compared.stderr
        assert ("No reconstructions of shrunk" not in compared.stdout) == drawn
        assert (stranger / "outputs/debug/comparison/figures/reconstructions.svg").exists()

    measured = ("estimator=shrunk,identity,none", "bits=4", "problem=linear")
    result = cli("gradients", *groups, *measured, **environment)
    assert result.returncode == 0, result.stderr
    (path,) = stranger.glob("outputs/gradients/*/gradients.csv")
    with path.open() as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"shrunk", "identity", "none"}
    assert float(rows["shrunk"]["cosine"]) == pytest.approx(float(rows["identity"]["cosine"]))
    assert float(rows["shrunk"]["bias"]) < float(rows["identity"]["bias"])


def test_its_mistakes_are_found_as_ours_are(cli: Cli, stranger: Path) -> None:
    environment = {"PYTHONPATH": str(stranger / "code")}
    groups = ("--config-dir", str(stranger / "groups"))
    for override, message in (
        ("estimator.factor=-1", "estimator.factor must be greater than 0, got -1"),
        ("estimator.facto=1", "did you mean 'estimator.factor'"),
    ):
        result = cli("train", *groups, "estimator=shrunk", override, **environment)
        assert result.returncode == 2
        assert message in result.stderr
    assert not (stranger / "outputs").exists()
