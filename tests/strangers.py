"""What a stranger would write into a run's config.yaml."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from stelab.engine.studies import Run, read_run

SECRET = "STELAB_TEST_SECRET"


class Payloads:
    """Nodes that leave a trace in a folder where anything of them is executed.

    Attributes:
        canary: Is made, or emptied, where one is executed.
        kept: A folder with a file in it, which one would delete.
    """

    def __init__(self, folder: Path):
        self.canary, self.kept = folder / "canary", folder / "kept"
        self.kept.mkdir(parents=True)
        (self.kept / "file").touch()
        package = folder / "code"
        package.mkdir()
        (package / "imported_by_strangers.py").write_text(
            f"open({str(self.canary)!r}, 'w').close()\nclass Thing:\n    pass\n"
        )
        self.path = package  # on sys.path, as what is installed is
        self.pickle = folder / "payload.pt"
        torch.save(_Touch(str(self.canary)), self.pickle)

    @staticmethod
    def names() -> list[str]:
        """Return the names of all of them."""
        return list(_nodes(Path(), Path(), Path()))

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return all of them by a name."""
        return _nodes(self.canary, self.kept, self.pickle)

    def left(self) -> bool:
        """Tell whether any was executed."""
        return self.canary.exists() or not (self.kept / "file").exists()


def _nodes(canary: Path, kept: Path, pickle: Path) -> dict[str, dict[str, Any]]:
    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    system = {"_target_": "os.system", "command": touch}
    layer = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
    return {
        "os.system": system,
        "subprocess": {"_target_": "subprocess.call", "_args_": [["touch", str(canary)]]},
        "eval": {"_target_": "builtins.eval", "_args_": [code]},
        "open": {"_target_": "builtins.open", "file": str(canary), "mode": "w"},
        "sympify": {"_target_": "sympy.sympify", "a": f"__import__('os').system('{touch}')"},
        "path": {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path"}]},
        "import alone": {"_target_": "imported_by_strangers.Thing"},
        "main": {"_target_": "stelab.__main__.main"},
        "torch.load": {
            "_target_": "torch.load",
            "f": str(pickle),
            "weights_only": False,
        },
        "torch.save": {"_target_": "torch.save", "obj": [1], "f": str(canary)},
        "hub": {"_target_": "torch.hub.load", "repo_or_dir": "a/b", "model": "c"},
        "compile": {"_target_": "torch.compile", "model": system},
        "alias of a module": {
            "_target_": "torch.nn.modules.module.os.system",
            "command": touch,
        },
        "alias in stelab": {
            "_target_": "stelab.engine.config.compose.hydra.utils.instantiate",
            "config": system,
        },
        "build": {"_target_": "stelab.engine.config.build", "node": system},
        "empty": {"_target_": "stelab.engine.studies.record.shutil.rmtree", "path": str(kept)},
        "write": {
            "_target_": "stelab.engine.files.write_atomically",
            "path": str(canary),
            "content": "x",
        },
        "a run": {"_target_": "stelab.lab.gradients.TrainedLoss", "run": "${oc.env:HOME}"},
        "method": {"_target_": "torch.nn.Module.to", "_args_": [layer, "cpu"]},
        "of a class": {"_target_": "stelab.lab.models.Autoencoder.decode", "_args_": [layer, 1]},
        "partial": {**system, "_partial_": True},
        "in arguments": {**layer, "bias": {"deep": [{"er": system}]}},
        "in a list": {"_target_": "torch.nn.Sequential", "_args_": [layer, system]},
        "not recursive": {**layer, "_recursive_": False, "bias": system},
        "no text": {"_target_": ["os", "system"]},
        "no name": {"_target_": "../../os.system"},
        "secret": {"_target_": f"${{oc.env:{SECRET}}}"},
    }


class _Touch:
    """Touches a file when it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def edited(run: Run, folder: Path, changes: dict[str, Any]) -> Run:
    """Copy a run to a folder, with other values at some dotted keys of its configuration."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(run.folder, folder, copy_function=os.link)
    config = copy.deepcopy(run.config)
    for key, value in changes.items():
        node = config
        *parents, last = key.split(".")
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                node[parent] = {}
            node = node[parent]
        node[last] = value
    (folder / "config.yaml").unlink()  # a link to the original
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return read_run(folder)
