"""Importing without the garbage collector leaves it as it was."""

from __future__ import annotations

import gc
from importlib import import_module

import pytest

from stelab.engine.importing import importing


def test_the_collector_rests_and_goes_on() -> None:
    frozen = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


def test_it_goes_on_where_an_import_fails() -> None:
    with pytest.raises(ModuleNotFoundError), importing():
        import_module("stelab.there_is_none")
    assert gc.isenabled()


def test_a_host_without_a_collector_keeps_none() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_was_there_counts_as_old() -> None:
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    try:
        with importing():
            young: list[list[int]] = [[] for _ in range(5000)]
        assert len(gc.get_objects(generation=0)) < len(young)
        assert gc.get_freeze_count() == 0
    finally:
        if frozen:
            gc.freeze()
