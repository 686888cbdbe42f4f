"""Signals while a run saves its state."""

from __future__ import annotations

import signal

import pytest

from stelab.lab.training.interrupts import Interrupted, Interrupts


def test_a_second_interrupt_does_not_wait_for_the_state_to_be_saved() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(Interrupted):
            signals.check()
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")
    assert signal.getsignal(signal.SIGINT) is before
