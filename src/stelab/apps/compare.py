"""``stelab compare``: from a finished study to a conclusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from stelab.apps.main import command_line, study_command
from stelab.engine.errors import InputError, RunError
from stelab.engine.files import require_folder, require_own
from stelab.engine.path_names import split_commas
from stelab.engine.terminal import visible
from stelab.engine.trust import packages

if TYPE_CHECKING:
    from stelab.engine.comparison import Comparison
    from stelab.engine.studies.study import Study

TEXTS = "study against columns metric better by where baseline replicates output trust".split()


def start(cfg: DictConfig) -> None:
    """Print the comparison and write the report; or judge a study by an older one."""
    from stelab.engine.studies.places import comparison_folder, is_folder, study_folders

    trust = packages(cfg.trust)
    studies = study_folders(cfg.paths.outputs, cfg.study)
    if cfg.against is not None:
        return _judge(cfg, studies, study_folders(cfg.paths.outputs, cfg.against))
    folder = Path(cfg.output) if cfg.output else comparison_folder(studies)
    if cfg.report:
        require_folder(folder)
    from stelab.engine.comparison import compare
    from stelab.engine.report.printed_comparison import print_comparison
    from stelab.engine.studies.tables import load

    study = load(*studies, columns=_columns(cfg.columns))
    _require_settings(cfg, studies, study)
    comparison = compare(study, **_options(cfg))
    print_comparison(comparison)
    _print_left_out(study, studies)
    if cfg.report:
        _clear(folder)
        _report(cfg, comparison, folder, trust)
        if all(map(is_folder, studies)):
            board = study_command("tensorboard", study=cfg.study, outputs=cfg.paths.outputs)
            print(f"TensorBoard: {board}")


def _options(cfg: DictConfig) -> dict[str, Any]:
    """Return the arguments of `stelab.engine.comparison.compare`."""
    values = {key: cfg[key] for key in ("baseline", "where", "confidence", "interval")}
    lists = {"by": cfg.by, "metrics": cfg.metric, "better": cfg.better}
    lists = {key: None if text is None else split_commas(text) for key, text in lists.items()}
    return {**values, **lists, "replicates": split_commas(cfg.replicates)}


def _columns(text: str | None) -> dict[str, str]:
    """Read ``"loss:test/mse method:estimator"``: columns of others' tables, and our names."""
    pairs = [word.rpartition(":") for word in (text or "").split()]
    if wrong := [name for old, _, name in pairs if not (old and name)]:
        raise InputError(
            f"columns must be COLUMN:NAME, with spaces between several; got {wrong[0]}"
        )
    return {old: name for old, _, name in pairs}


def _require_settings(cfg: DictConfig, studies: Sequence[Path], study: Study) -> None:
    """Refuse a table that does not say which of its columns are settings, nor does the user."""
    from stelab.engine.studies.places import is_table

    if cfg.by is None and not study.swept and any(map(is_table, studies)):
        known = study.runs.drop(columns=["study", "folder", "edited"]).dropna(axis=1, how="all")
        there = ", ".join(map(str, known))
        raise InputError(
            f"by must name the columns that are settings, with commas, for {cfg.study} does not "
            f"say which are (there are: {there})"
        )


def _clear(folder: Path) -> None:
    """Make the report's folder, or remove the links from one, which may be a stranger's."""
    require_own(folder, folder / "figures")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in filter(Path.is_symlink, folder.iterdir()):
            path.unlink()
    except OSError as error:
        raise InputError(f"the report cannot be written to {folder}: {error}") from error


def _report(cfg: DictConfig, comparison: Comparison, folder: Path, trust: Sequence[str]) -> None:
    from stelab.engine.report.drawing import style
    from stelab.engine.report.page.write import write_report
    from stelab.engine.report.study_figures import draw_figures
    from stelab.engine.studies.command import with_commands
    from stelab.lab.training.reconstructions import picture_reconstructions

    study = comparison.study
    comparison = replace(comparison, study=replace(study, runs=with_commands(study.runs)))
    comparison.write(folder)
    place, data, missing = folder / "figures", cfg.get("data"), list[str]()
    figures = draw_figures(comparison, place, log_scale=cfg.log_scale)
    try:
        with style():
            picture = picture_reconstructions(comparison, data, trust=trust)
            figures.append(picture.save(place))
        missing += figures[-1].missing
    except InputError as error:
        missing.append(str(error))
    report = write_report(comparison, folder, figures, command=command_line(), missing=missing)
    for line in missing:
        print(visible(line))
    print(f"\nReport:      {report}")
    print(f"Tables:      {folder}/{{comparison,runs,curves,left_out}}.{{csv,parquet}}")
    print(f"Figures:     {folder}/figures/")


def _print_left_out(study: Study, folders: Sequence[Path]) -> None:
    from stelab.engine.report.status_table import print_states
    from stelab.engine.studies.sweep import settings_of

    settings = {run: text for folder in folders for run, text in settings_of(folder).items()}
    left_out = study.left_out[["run", "state", "reason"]]
    print_states(left_out.itertuples(index=False, name=None), settings=settings)


def _judge(cfg: DictConfig, studies: list[Path], olds: list[Path]) -> None:
    """Compare with older studies; raise RunError if a metric got worse, or a run failed."""
    from stelab.engine.comparison import against, compare
    from stelab.engine.comparison.compare import differing
    from stelab.engine.report.printed_comparison import print_regression
    from stelab.engine.studies.tables import load, named

    if cfg.baseline is not None:
        raise InputError("against: the baseline is the older study: leave out baseline=")
    if cfg.output is not None:
        raise InputError("against: nothing is written: leave out output=")
    folders = {path.resolve() for path in studies}
    if shared := folders & {path.resolve() for path in olds}:
        names = ", ".join(sorted(path.name for path in shared))
        raise InputError(f"against must name other studies than study: both name {names}")
    both = load(*studies, *olds, columns=_columns(cfg.columns))
    paths = named([*studies, *olds]).items()
    parts = {part for table in (both.runs, both.left_out) for part in table["study"]}
    ours = [name for name, path in paths if path.resolve() in folders]
    # A table may hold several studies, which have its name before theirs.
    news = [part for part in parts if part in ours or part.rpartition("/")[0] in ours]
    new, old = both.only(news), both.only(parts.difference(news))
    options = _options(cfg)
    if options["by"] is None:
        options["by"] = differing(both, both.runs, options["replicates"])
    mine, theirs = compare(new, **options), compare(old, **options)
    regression = against(mine, theirs)
    title = f"{cfg.study} against {cfg.against}"
    print_regression(regression, title, confidence=cfg.confidence)
    for note in dict.fromkeys([*mine.notes, *theirs.notes]):
        print(visible(note))
    _print_left_out(both, [*studies, *olds])
    if count := len(regression.alarms):
        rows = f"{count} of {len(regression.table)} rows"
        raise RunError(f"{title}: {rows} are worse, failed or lost")
