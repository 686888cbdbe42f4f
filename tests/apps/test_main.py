"""The command line as a process: help, completion, exit codes, and where it can be run from."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from conftest import REPOSITORY, Cli, Start
from stelab.engine.config import CONF_DIR
from stelab.engine.studies import Run
from waiting import PATIENCE, wait_until

COMMANDS = (
    "train status compare export unpack tensorboard evaluate gradients encode decode bench".split()
)


def test_alone_it_lists_the_commands(cli_process: Cli) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        result = cli_process(*arguments)
        assert result.returncode == 0
        for command in COMMANDS:
            assert f"\n  {command} " in result.stdout


def test_version(cli_process: Cli) -> None:
    import stelab

    assert cli_process("--version").stdout == f"stelab {stelab.__version__}\n"


HELP = """
import os, sys
import stelab.engine.config
from stelab.apps.main import main

for words in sys.argv[1:]:
    if not os.fork():
        sys.argv = ["stelab", *words.split()]
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        assert not code, (words, code)
        heavy = {"torch", "pytorch_lightning", "numpy", "pandas", "scipy", "matplotlib"}
        assert not heavy & set(sys.modules), (words, heavy & set(sys.modules))
        sys.exit()
    _, status = os.wait()
    assert not status, words
    print("answered", words, flush=True)
"""


def test_help_and_status_answer_without_torch(trained: Run, tmp_path: Path) -> None:
    lines = ["--help", *(f"{command} --help" for command in COMMANDS), "train --cfg job"]
    lines += ["train --info defaults", "gradients --cfg job", "train --hydra-help"]
    study = trained.folder.parent
    lines += [f"status study={study.name} paths.outputs={study.parent}"]
    result = subprocess.run(
        [sys.executable, "-c", HELP, *lines], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    answers = re.split("(?m)^answered .*\n", result.stdout)
    assert len(answers) == len(lines) + 1
    assert all(answers[:-1])
    assert not list(tmp_path.iterdir())


def test_training_imports_what_it_uses(tmp_path: Path) -> None:
    code = "import sys; from stelab.apps.main import main; main(); print(*sys.modules)"
    words = ["train", "debug=fast", "model=mlp"]
    result = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    # Those of sweeps, of comparisons, and of loggers that were not chosen.
    tables = {"pandas", "pyarrow", "statsmodels", "sklearn", "jinja2"}
    others = {"optuna", "sqlalchemy", "ray", "submitit", "wandb", "mlflow"}
    imported = set(result.stdout.split())
    assert "torch" in imported
    assert imported & (tables | others | {"scipy.stats"}) == set()


def test_what_is_imported_late_is_whole() -> None:
    code = "import sys, stelab.lab; late = sys.modules['scipy.signal']; "
    code += "assert not hasattr(late, '__wrapped__') and sys.modules['scipy.signal'] is late; "
    code += "import scipy.signal as s; import scipy.signal.windows as w; "
    code += "assert s.windows is w and s.find_peaks([0, 1, 0])[0] == [1]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gradients_help_shows_every_problem(cli_process: Cli) -> None:
    problems = sorted(path.stem for path in Path(CONF_DIR, "problem").glob("*.yaml"))
    assert f"\nproblem: {', '.join(problems)}\n" in cli_process("gradients", "--help").stdout


def test_train_help_shows_groups_and_keys(cli_process: Cli) -> None:
    text = cli_process("train", "--help").stdout
    for group in ("estimator", "threshold", "model", "loss", "data"):
        options = sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))
        assert f"{group}: {', '.join(options)}\n" in text
    assert "experiment=quickstart" in text
    assert "lr: 0.001" in text


def completions(cli_process: Cli, line: str) -> list[str]:
    result = cli_process("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_tab_completion(cli_process: Cli) -> None:
    assert completions(cli_process, "stelab tr") == ["train"]
    assert completions(cli_process, "stelab ") == COMMANDS
    assert "estimator=hardtanh_clip" in completions(cli_process, "stelab train estimator=h")
    assert "threshold.value=" in completions(cli_process, "stelab train threshold.")
    assert completions(cli_process, "stelab nope x") == []
    assert "complete" in cli_process("-sc", "install=bash").stdout


def test_a_checkout_runs_from_any_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    result = subprocess.run(
        [sys.executable, "-m", "stelab", "train", "--cfg", "job"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "_target_: stelab.estimators.Identity" in result.stdout, result.stderr


def test_the_wheel_has_its_configuration_and_types(installed_wheel: Path) -> None:
    package = installed_wheel / "stelab"
    assert (package / "py.typed").is_file()
    ours = {p.relative_to(REPOSITORY / "conf") for p in (REPOSITORY / "conf").rglob("*.yaml")}
    packed = {p.relative_to(package / "conf") for p in (package / "conf").rglob("*.yaml")}
    assert packed == ours
    plugins = REPOSITORY / "src" / "hydra_plugins" / "stelab"
    modules = {p.name for p in (installed_wheel / "hydra_plugins" / "stelab").glob("*.py")}
    assert modules == {p.name for p in plugins.glob("*.py")}
    assert {"sweepers.py", "optuna.py"} <= modules
    assert not (installed_wheel / "hydra_plugins" / "__init__.py").exists()
    (wheel,) = installed_wheel.parent.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [
        n for n in names if n.startswith(("tests/", "outputs/", "scripts/")) or "atlas" in n
    ]


def test_the_wheel_trains_from_another_folder(installed_wheel: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed_wheel)}
    code = "import stelab; print(stelab.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    ).stdout
    assert where.startswith(str(installed_wheel))
    result = subprocess.run(
        [sys.executable, "-m", "stelab", "train", "debug=fast", "model=mlp"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "outputs" / "debug").glob("identity-fixed0-s0-*"))) == 1


def test_the_script_runs_from_any_folder(tmp_path: Path) -> None:
    if not (REPOSITORY / ".venv").is_dir():
        pytest.fail("run the tests with scripts/test, which makes .venv")
    result = subprocess.run(
        [str(REPOSITORY / "scripts" / "stelab"), "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("stelab ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_ends_with_its_code_and_is_recorded(
    tmp_path: Path, number: signal.Signals
) -> None:
    from stelab.engine.studies import read_run

    process = subprocess.Popen(
        [sys.executable, "-m", "stelab", "train", "debug=fast", "model=mlp"]
        + ["trainer.max_epochs=100000"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    study = tmp_path / "outputs" / "debug"
    wait_until(lambda: bool(list(study.glob("*/metrics.csv"))))
    process.send_signal(number)
    try:
        _, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert "Traceback" not in stderr
    (folder,) = study.iterdir()
    assert read_run(folder).status == "interrupted"
    assert read_run(folder).reason == f"stopped by {number.name}"
    assert (folder / "checkpoints" / "last.ckpt").exists()


def test_a_background_job_goes_on_at_ctrl_c(start: Start, tmp_path: Path) -> None:
    # What a shell starts with & or nohup has SIGINT ignored: it is not for it.
    ignore = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    command = "from stelab.apps.main import main\nmain()\n"
    process = start("train", "debug=fast", "model=mlp", code=ignore + command)
    wait_until(lambda: bool(list(tmp_path.glob("outputs/debug/*/metrics.csv"))))
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
