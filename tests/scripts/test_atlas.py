"""The atlas shows the objects of today, and their docstrings say what it takes from them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from atlas.docstrings import read_keys, read_rule, to_markdown
from atlas.entries import Entry, read_entries
from atlas.page import read_page, references, write_atlas, write_picture
from atlas.pictures import DPI, draw_estimator
from atlas.toy import DRAWS, gradient_law, mean_forward
from conftest import REPOSITORY
from pictures import TOLERANCE, difference
from stelab.estimators import (
    DARN,
    Exact,
    Identity,
    LocalExpectation,
    MultiEvaluation,
    NoBaseline,
    Reinforce,
    ReinMax,
    SigmoidSlope,
)

DOCS = REPOSITORY / "docs"
STALE = "docs/estimators is stale: run scripts/draw_atlas"
ENTRIES = {entry.name: entry for entry in read_entries("estimator")}
S = torch.linspace(-2, 2, 9, dtype=torch.float64)


@pytest.fixture(params=ENTRIES)
def entry(request: pytest.FixtureRequest) -> Entry:
    return ENTRIES[request.param]


def test_the_page_is_up_to_date() -> None:
    assert (DOCS / "estimators.md").read_text(encoding="utf-8") == read_page(), STALE


def test_every_estimator_has_a_picture_and_nothing_else_has() -> None:
    drawn = {path.name for path in DOCS.glob("estimators/*")}
    assert drawn == {f"{name}.png" for name in ENTRIES}, STALE


def test_the_picture_is_up_to_date(entry: Entry, tmp_path: Path) -> None:
    write_picture(entry, tmp_path / "fresh.png")
    with (
        Image.open(tmp_path / "fresh.png") as fresh,
        Image.open(DOCS / "estimators" / f"{entry.name}.png") as kept,
    ):
        assert difference(fresh, kept) < TOLERANCE, STALE


def test_a_stale_picture_is_noticed() -> None:
    file = io.BytesIO()
    draw_estimator(SigmoidSlope(slope=1.1)).savefig(file, dpi=DPI)
    with Image.open(DOCS / "estimators" / "sigmoid_slope.png") as slope_1:
        assert difference(Image.open(file), slope_1) > 2 * TOLERANCE


def test_pictures_are_small_and_say_nothing_of_this_machine() -> None:
    for path in DOCS.glob("estimators/*.png"):
        with Image.open(path) as picture:
            assert picture.width == 480
            assert picture.height in (160, 320)
            assert set(picture.info) == {"dpi"}


def test_pictures_are_drawn_where_asked_for_or_absent_and_deleted_without_an_estimator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [ENTRIES[name] for name in ("identity", "none", "relu")]
    monkeypatch.setattr("atlas.page.read_entries", lambda group: some)
    pictures = tmp_path / "estimators"
    pictures.mkdir()
    for name in ("gone", "identity", "none"):
        (pictures / f"{name}.png").touch()
    write_atlas(tmp_path, names=["none"])
    drawn = {path.stem: path.stat().st_size > 0 for path in pictures.iterdir()}
    assert drawn == {"identity": False, "none": True, "relu": True}
    write_atlas(tmp_path)
    assert all(path.stat().st_size > 0 for path in pictures.iterdir())
    assert "### `relu`" in (tmp_path / "estimators.md").read_text(encoding="utf-8")


def test_the_docstring_names_its_exactness(entry: Entry) -> None:
    text = " ".join((type(entry.built).__doc__ or "").split())
    assert re.search(rf"\b{entry.built.exactness}\b", text, flags=re.IGNORECASE)


def test_the_docstring_says_what_it_computes_and_costs(entry: Entry) -> None:
    rule = read_rule(type(entry.built))
    assert "$`" in rule.forward
    assert "$`" in rule.backward
    assert ":math:" not in " ".join(rule)
    assert "evaluation" in (type(entry.built).__doc__ or "")


def test_the_docstring_names_references_with_author_year_and_title(entry: Entry) -> None:
    found = references(entry)
    assert found
    for text in found:
        assert re.match(r'\w[^"]* \(\d{4}\), ".+"', text), text


def test_mathematics_becomes_githubs() -> None:
    text = r"With :math:`g\,w` and ``x``, `Y`." "\n\n" r".. math:: a =" "\n" r"   b."
    assert to_markdown(text) == "With $`g\\,w`$ and `x`, `Y`.\n\n```math\na =\n   b.\n```"


def test_a_rule_begins_with_its_premise_and_includes_what_is_displayed() -> None:
    class Wordy:
        r"""A summary.

        With :math:`h = 1`,

        Forward: :math:`b`. Backward: the :math:`w` that minimizes

        .. math:: w^2
           + w.

        Something else. [Bengio2013] and [Yin2019], [Yin2019], not [f(b) - 1] or [2013].
        """

    assert read_rule(Wordy) == (
        "With $`h = 1`$,",
        "$`b`$.",
        "the $`w`$ that minimizes $`w^2 + w.`$",
    )
    assert read_keys(Wordy) == ["Bengio2013", "Yin2019"]


def test_a_docstring_without_a_rule_is_named() -> None:
    class Silent:
        """Nothing."""

    with pytest.raises(ValueError, match="docstring of Silent must say 'Forward:'"):
        read_rule(Silent)


def logistic_gradient(s: Tensor) -> Tensor:
    return 0.1 * torch.sigmoid(s) * torch.sigmoid(-s)  # f(1) - f(0) = 0.55² - 0.45²


@pytest.mark.parametrize("estimator", [ReinMax(temperature=1.0), LocalExpectation(), Exact(bits=1)])
def test_what_is_exact_lies_on_the_exact_line(estimator: ReinMax | MultiEvaluation) -> None:
    found = gradient_law(estimator, S)
    assert torch.allclose(found.exact[:, 0], logistic_gradient(S), atol=1e-15)
    assert torch.allclose(found.mean[:, 0], logistic_gradient(S), atol=1e-14)


def test_a_deterministic_estimator_has_no_spread() -> None:
    found = gradient_law(Identity(), S)
    assert torch.allclose(found.mean[:, 0], torch.where(S > 0, 1.1, -0.9).double(), atol=1e-15)
    assert not found.variances.any()
    assert torch.equal(mean_forward(Identity(), S), (S > 0).double())


def test_enumerated_and_drawn_laws_agree_with_arithmetic() -> None:
    p = torch.sigmoid(S)
    darn = gradient_law(DARN(), S)  # 1.1 (1 - p)² at b = 1, -0.9 p² at b = 0
    mean = 1.1 * p * (1 - p) ** 2 - 0.9 * (1 - p) * p**2
    assert torch.allclose(darn.mean[:, 0], mean, atol=1e-15)
    sd = (p * (1 - p)).sqrt() * (1.1 * (1 - p) ** 2 + 0.9 * p**2)
    assert torch.allclose(darn.variances[:, 0].sqrt(), sd)

    drawn = gradient_law(Reinforce(baseline=NoBaseline()), S)  # f(b) (b - p)
    sd = (p * (1 - p)).sqrt() * (0.3025 * (1 - p) + 0.2025 * p)
    assert ((drawn.mean[:, 0] - logistic_gradient(S)).abs() < 5 * sd / DRAWS**0.5).all()
    assert torch.allclose(drawn.variances[:, 0].sqrt(), sd, rtol=0.05)
