"""Where studies and their comparisons lie, and which folders of a study may be runs."""

from pathlib import Path

from stelab.engine.archives import SUFFIX, SWEEPS, is_archive, studies_in
from stelab.engine.errors import InputError
from stelab.engine.path_names import split_commas
from stelab.engine.studies.status import has_begun

TABLES = (".csv", ".parquet")  # of runs, which others may have made

COMPARISON = "comparison"  # where `stelab compare` writes, inside a study's folder


def study_folders(outputs: str, studies: str) -> list[Path]:
    """Return comma-separated studies: names in `outputs`, or paths; of an archive all that it has.

    A path has a slash in it, or is that of an archive or of a table of runs.
    """
    names = split_commas(studies)
    if not names:
        raise InputError(f"a study must be named, or several: NAME,NAME; got '{studies}'")
    paths = [Path(name) if _is_path(name) else Path(outputs, name) for name in names]
    return [study for path in paths for study in studies_in(path)]


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith((SUFFIX, *TABLES))


def is_folder(study: Path) -> bool:
    """Return whether a study is a folder of its own: neither in an archive nor a table."""
    return not (is_archive(study.parent) or is_table(study))


def is_table(path: Path) -> bool:
    """Return whether a path is that of a table of runs."""
    return path.suffix in TABLES and path.is_file()


def comparison_folder(studies: list[Path]) -> Path:
    """Return where the comparison of studies is written: in the first one's folder, if it has one.

    Else beside its file.
    """
    first, *others = {study.resolve(): study for study in studies}.values()  # each once
    name = "-with-".join([COMPARISON, *(other.name for other in others)])
    if is_folder(first):
        return first / name
    if is_table(first):
        return first.with_name(f"{first.stem}-{name}")
    return first.parent.with_name(f"{first.parent.name.removesuffix(SUFFIX)}-{name}")


def may_be_run(path: Path) -> bool:
    """Return whether it is a folder, or a link to what was one, that stelab itself did not make."""
    if path.name == SWEEPS or path.name.startswith("."):
        return False
    if path.name == COMPARISON or path.name.startswith(f"{COMPARISON}-with-"):
        return has_begun(path)
    return path.is_dir() or (path.is_symlink() and not path.exists())
