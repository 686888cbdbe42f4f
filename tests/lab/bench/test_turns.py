"""Measurements in turns: their order, real processes, and what is made of the numbers."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from stelab.engine.errors import InputError, RunError
from stelab.lab.bench.turns import Case, Values, ratios, run_python, spread, take_turns


def test_a_group_takes_turns_there_and_back() -> None:
    seen: list[tuple[str, str]] = []

    def measure(group: str, name: str, folder: Path) -> Values:
        assert not list(folder.iterdir())
        (folder / "left").touch()
        seen.append((group, name))
        return {"n": len(seen)}

    cases = [Case("p", g, n, partial(measure, g, n)) for g in "xy" for n in "abc"]
    samples = list(take_turns(cases, repetitions=3))
    assert "".join(name for _, name in seen) == 2 * ("abc" + "cba" + "abc")
    assert [group for group, _ in seen] == ["x"] * 9 + ["y"] * 9
    assert [s.repetition for s in samples] == 2 * ([0] * 3 + [1] * 3 + [2] * 3)
    assert [s.values["n"] for s in samples] == list(range(1, 19))


def test_a_process_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = "import os; b = bytes(100 * 2**20); print(os.environ.get('OMP_NUM_THREADS'))"
    values, out = run_python("-c", code)
    assert out == "None\n"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert values["peak_mib"] > 100
    assert values["seconds"] > 0


@pytest.mark.parametrize(("code", "kind"), [(1, RunError), (2, InputError), (-9, RunError)])
def test_how_a_process_failed_is_told(code: int, kind: type[Exception]) -> None:
    end = f"sys.exit({code})" if code > 0 else f"os.kill(os.getpid(), {-code})"
    say = "print('some more\\nstelab: the reason', file=sys.stderr, flush=True)"
    with pytest.raises(kind, match=rf"ended with code {code}: the reason$"):
        run_python("-c", f"import os, sys; {say}; {end}")


def test_an_interrupt_ends_the_process_that_is_measured(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); "
        "os.kill(os.getppid(), signal.SIGINT); time.sleep(600)"
    )
    with pytest.raises(KeyboardInterrupt):
        run_python("-c", code, str(tmp_path / "pid"))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_ratios_are_of_neighbours_and_spread_is_told() -> None:
    assert ratios([2.0, 9.0, 8.0], [1.0, 3.0]) == [2.0, 3.0]
    assert spread([3.0, 1000.5, 2.0], 1) == "3.0 (2.0 to 1,000.5)"
    assert spread([0.05, 0.01], 1, times=100, unit=" %") == "3.0 % (1.0 to 5.0)"
    assert spread([1.25], 2, unit="×") == "1.25×"
    assert spread([]) == "–"
