"""What was measured, as a page and as raw values."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from stelab.engine.config.validate import plain
from stelab.engine.files import write_atomically
from stelab.lab.bench import launchers, profile, start, steps, studies
from stelab.lab.bench.turns import Sample

PARTS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (steps, profile, start, launchers, studies)
}
PAGE, RAW = "bench.md", "bench.json"


@dataclass
class Bench:
    """What is measured: how, on what, and what came out so far.

    Attributes:
        cfg: The command's configuration.
        command: As it was typed.
        record: run.json of a run here, for machine and versions.
        load: Processes that wanted a processor in the minute before.
    """

    cfg: Any
    command: str
    record: dict[str, Any]
    load: float
    samples: list[Sample] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write the page and the raw values."""
        known = ("machine", "versions", "git", "timings")
        raw = {"command": self.command, "configuration": plain(self.cfg), "load": self.load}
        raw |= {key: self.record.get(key) for key in known}
        raw["samples"] = [asdict(sample) for sample in self.samples]
        write_atomically(folder / RAW, json.dumps(raw, indent=1) + "\n")
        write_atomically(folder / PAGE, "\n".join(self._lines()) + "\n")

    def _lines(self) -> Iterator[str]:
        machine, git = self.record["machine"], self.record.get("git") or {}
        versions = ", ".join(f"{name} {number}" for name, number in self.record["versions"].items())
        changes = " with changes" if git.get("dirty") else ""
        repetitions = 1 + max((sample.repetition for sample in self.samples), default=-1)
        yield f"# stelab on {machine['processor']}, {machine['cpus']} cores\n"
        yield f"{', '.join(machine['gpus']) or 'Nothing was run on a GPU'}. {machine['system']};"
        yield f"Python {machine['python']}; {versions}. Begun {self.record['timings']['started']},"
        yield f"commit {git.get('commit', 'unknown')}{changes}, load {self.load:.1f}."
        yield f"\n```bash\n{self.command}\n```\n"
        yield f"Medians, and in brackets the least and the most, of n = {repetitions} measurements,"
        yield "each a process of its own, in turns with what it is compared with. Ratios are of"
        yield "neighbours: one repetition's."
        yield f"Raw values: [{RAW}]({RAW})."
        for name, part in PARTS.items():
            if samples := [sample for sample in self.samples if sample.part == name]:
                yield f"\n## {part.TITLE}\n\n{part.about(self.cfg)}\n"
                yield from part.tables(samples)
