"""Packages that only some options need, and the extras that install them."""

from importlib.util import find_spec

from stelab.engine.errors import InputError


def require_package(package: str, *, extra: str, user: str) -> None:
    """Raise InputError if a package is not installed that `user`, e.g. ``sweep=optuna``, needs."""
    if find_spec(package) is None:
        raise InputError(f"{user} needs {package}: pip install 'stelab[{extra}]'")
