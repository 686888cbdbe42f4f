"""Writes what strangers could send: broken and malicious runs, codes, images, IDX files, YAML.

    python tests/fuzz/hostile.py FOLDER --run RUN [--seed 0] [--count 300]

RUN is a finished run. Number i of a folder is made from the seed + i alone, so another seed gives
others, and one is made again by its own. What executes the code they bring makes FOLDER/canary.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

Random = random.Random

TEXTS = (
    *("", " ", "x", "[/x]", "[model.bits]", "[bold red]", "\x1b[2J\x1b]0;owned\x07", "\x9b31m"),
    *("a\x00b", "\ud800", "\u202eevil", "\u200b", "é" * 40, "a\nb", "\r", "\t", "n" * 300),
    *("../../../x", "/etc/passwd", "a/../../../x", "..", ".", "-", "~", "con", "%s%n", "{0}"),
    *("${oc.env:STELAB_SECRET}", "${oc.env:HOME}", "${seed}", "${nope}", "${", "???", "${a:${b}}"),
    *("<script>alert(1)</script>", "=1+1", "'; rm", '"', "1e400", "NaN", "1_000", "0x10", "null"),
    *("finished", "2026-01-01T00:00:00Z", "9999-99-99", "true", "!!python/object:os.system"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308),
    *(
        float("nan"),
        float("inf"),
        -float("inf"),
        [],
        {},
        [[]],
        [None],
        {"": None},
        {"a": {"b": []}},
    ),
    *([1, "a", None], {"x": [1, {"y": 2}]}, [0] * 1000, {str(i): i for i in range(1000)}),
)


def payloads(canary: Path) -> list[dict[str, Any]]:
    """Return nodes that make a file where something builds them."""
    path = str(canary)
    code = f"__import__('pathlib').Path({path!r}).touch()"
    inner = {"_target_": "builtins.open", "file": path, "mode": "w"}
    return [
        inner,
        {"_target_": "sympy.sympify", "a": code},
        {"_target_": "os.system", "command": f"touch {path}"},
        {"_target_": "subprocess.check_call", "_args_": [["touch", path]]},
        {"_target_": "builtins.exec", "_args_": [code]},
        {"_target_": "builtins.eval", "_args_": [code]},
        {
            "_target_": "pathlib.Path.touch",
            "_args_": [{"_target_": "pathlib.Path", "_args_": [path]}],
        },
        {"_target_": "torch.save", "obj": 0, "f": path},
        {"_target_": "numpy.savetxt", "fname": path, "X": [0]},
        {"_target_": "os.mkdir", "path": path},
        {"_target_": "shutil.copyfile", "src": "/etc/hostname", "dst": path},
        {"_target_": "functools.partial", "_args_": [inner]},
        {"_target_": "stelab.engine.files.write_atomically", "path": path, "content": ""},
        {"_target_": "torch.nn.Sequential", "_args_": [inner]},
        {"_target_": "stelab.lab.models.mlp.Path", "_args_": [inner]},
        {"_target_": "hydra.utils.instantiate", "config": inner},
        {"_target_": "torch.hub.load", "repo_or_dir": "/", "model": "x", "source": "local"},
        {"_target_": "torch.utils.data.dataloader.os.system", "command": f"touch {path}"},
        {"_target_": "importlib.import_module", "name": "antigravity", "_partial_": True},
        {"_target_": "pickle.loads", "_args_": [str(pickled(canary))]},
    ]


class _Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def pickled(canary: Path) -> bytes:
    """Return a pickle that makes a file."""
    return pickle.dumps(_Touch(canary))


def text(rng: Random) -> str:
    """Choose or mix a text."""
    if rng.random() < 0.8:
        return rng.choice(TEXTS)
    return "".join(chr(rng.randrange(1, 0x2000)) for _ in range(rng.randrange(40)))


def value(rng: Random, canary: Path) -> Any:
    """Choose a value of any kind."""
    kind = rng.random()
    if kind < 0.4:
        return text(rng)
    if kind < 0.75:
        return copy.deepcopy(rng.choice(VALUES))
    if kind < 0.8:
        return deep(rng.choice([5, 50, 900]))
    return rng.choice(payloads(canary))


def deep(levels: int) -> Any:
    """Return lists in lists."""
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


def nodes(tree: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) below a tree."""
    found: list[tuple[Any, Any]] = []
    keys = (
        tree.keys()
        if isinstance(tree, dict)
        else range(len(tree))
        if isinstance(tree, list)
        else ()
    )
    for key in list(keys):
        found += [(tree, key), *nodes(tree[key])]
    return found


def mutate(tree: Any, rng: Random, canary: Path) -> Any:
    """Return a tree with some nodes replaced, deleted, added or renamed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        places = nodes(tree)
        if not places or rng.random() < 0.03:
            return value(rng, canary)
        container, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.7:
            container[key] = value(rng, canary)
        elif kind < 0.85:
            del container[key]
        elif isinstance(container, dict):
            container[text(rng)] = value(rng, canary)
        else:
            container.append(value(rng, canary))
    return tree


def damage(content: bytes, rng: Random) -> bytes:
    """Return content that is cut, flipped, doubled, or something else altogether."""
    kind = rng.randrange(10)
    if kind == 0:
        return b""
    if kind in (1, 2):
        return content[: rng.randrange(len(content) + 1)]
    if kind in (3, 4, 5):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 8, 200])):
            if changed:
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if kind == 6:
        return rng.randbytes(rng.choice([1, 100, 10_000]))
    if kind == 7:
        return content * 2
    if kind == 8:
        return b"\x00" * rng.choice([1, 4096])
    at = rng.randrange(len(content) + 1)
    return (
        content[:at]
        + rng.choice([b"\xff\xfe", b"\x00", b"\x1b[2J", b"\xed\xa0\x80"])
        + content[at:]
    )


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


def replace(path: Path, rng: Random, canary: Path) -> str:
    """Put something that is no plain file in a file's place; return what."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    kind = rng.choice(
        ["folder", "fifo", "zero", "loop", "passwd", "huge", "dangling", "laughs", "pickle"]
    )
    if kind == "folder":
        path.mkdir()
        (path / "x").touch()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "passwd":
        path.symlink_to("/etc/passwd")
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "huge":
        path.touch()
        os.truncate(path, 8 * 2**30)  # sparse: it takes no space
    elif kind == "laughs":
        path.write_text(LAUGHS)
    else:
        path.write_bytes(pickled(canary))
    return kind


def dump_json(tree: Any) -> bytes:
    """Write JSON with whatever is in it: NaN, lone surrogates."""
    return json.dumps(tree).encode()


def dump_yaml(tree: Any) -> bytes:
    """Write YAML, in which a lone surrogate stands as it is in JSON."""
    try:
        return yaml.safe_dump(tree).encode()
    except (UnicodeEncodeError, RecursionError, yaml.YAMLError):
        return dump_json(tree)  # YAML reads JSON


def hostile_checkpoint(healthy: bytes, rng: Random, canary: Path) -> bytes:
    """Return a checkpoint that is damaged, foreign, full of NaN, or that brings code."""
    import torch

    kind = rng.choice(["damage", "pickle", "nan", "shapes", "keys", "types", "legacy", "tree"])
    if kind == "damage":
        return damage(healthy, rng)
    if kind == "pickle":
        file = io.BytesIO()
        torch.save({"state_dict": _Touch(canary)}, file)
        return file.getvalue()
    if kind == "legacy":
        return pickled(canary)
    state = torch.load(io.BytesIO(healthy), weights_only=True)
    weights = state["state_dict"]
    name = rng.choice(sorted(weights))
    if kind == "nan":
        weights[name] = torch.full_like(
            weights[name].float(), rng.choice([float("nan"), float("inf")])
        )
    elif kind == "shapes":
        weights[name] = torch.zeros(rng.choice([(), (0,), (1,), (3, 5), (2, 3, 5, 7)]))
    elif kind == "keys":
        del weights[name]
        weights[text(rng)] = torch.zeros(3)
    elif kind == "types":
        weights[name] = rng.choice([None, "x", 1, [], torch.zeros(3, dtype=torch.complex64), {}])
    else:
        key = rng.choice(sorted(state))
        state[key] = copy.deepcopy(rng.choice([*VALUES, *TEXTS]))
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def hostile_run(folder: Path, rng: Random, *, run: Path, canary: Path) -> Path:
    """Copy a finished run with one to three things wrong with it."""
    target = folder / rng.choice(
        ["run", "run", "run", "a b", "[red]x", "n" * 200, "é", "-x", "x\x1b[2J"]
    )
    shutil.copytree(run, target)
    files = [path for path in sorted(target.rglob("*")) if path.is_file()]
    main = [path for path in files if path.name in ("run.json", "config.yaml", "metrics.csv")]
    touched: set[Path] = set()
    for _ in range(rng.choice([1, 1, 2, 3])):
        path = rng.choice(rng.choice([main, main, files]))
        kind = rng.random()
        if path in touched:
            continue  # it may be huge by now, or no file
        touched.add(path)
        if kind < 0.2:
            replace(path, rng, canary)
        elif path.suffix == ".ckpt":
            content = hostile_checkpoint(path.read_bytes(), rng, canary)
            for checkpoint in {path, *path.parent.glob("*.ckpt")} - touched | {path}:
                checkpoint.unlink()  # last and best may be one file, of two names
                checkpoint.write_bytes(content)
                touched.add(checkpoint)
        elif kind < 0.4 or path.suffix not in (".json", ".yaml", ".csv"):
            path.write_bytes(damage(path.read_bytes(), rng))
        elif path.suffix == ".csv":
            path.write_bytes(hostile_csv(path.read_text(errors="replace"), rng))
        elif path.suffix == ".json":
            path.write_bytes(dump_json(mutate(_tree(path), rng, canary)))
        else:
            path.write_bytes(dump_yaml(mutate(_tree(path), rng, canary)))
    if rng.random() < 0.2:
        extra = rng.choice(
            ["run.lock", "progress.json", "sweep.json", "figures/x.png", "tb/events.out.x"]
        )
        (target / extra).parent.mkdir(exist_ok=True)
        if target / extra not in touched:
            (target / extra).write_bytes(damage(b'{"step": 3, "of": 4}', rng))
    return target


def _tree(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        return {}


def hostile_csv(content: str, rng: Random) -> bytes:
    """Return a table with cells, columns or rows that do not belong."""
    rows = [line.split(",") for line in content.splitlines()] or [[""]]
    for _ in range(rng.choice([1, 1, 3])):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = rng.choice([*TEXTS, "1e999", "-inf", "nan"])
        if rng.random() < 0.2:
            rows.append(list(rng.choice(rows)) * rng.choice([1, 2, 50]))
        if rng.random() < 0.2:
            rows[0].append(rows[0][0])
    return "\n".join(",".join(row) for row in rows).encode(errors="surrogatepass")


def hostile_codes(folder: Path, rng: Random, *, canary: Path, size: int = 2) -> Path:
    """Write a .npy file that is none, or not of the codes of a run."""
    path = folder / rng.choice(["codes.npy", "c\x1b[2J.npy", "[x].npy"])
    kind = rng.choice(["damage", "lies", "dtype", "objects", "shape", "fortran", "replace", "huge"])
    good = io.BytesIO()
    np.save(good, np.zeros((3, size), np.uint8))
    if kind == "damage":
        path.write_bytes(damage(good.getvalue(), rng))
    elif kind == "lies":
        shape = rng.choice(
            [(10**12, size), (10**18, 10**18), (-1, size), (2**40,), (0, size), (3, 0)]
        )
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
        path.write_bytes(npy(header) + bytes(64))
    elif kind == "dtype":
        kinds = ["f8", "i4", "c16", "bool", "M8[s]", "S3", "U3", "u1,u1"]
        np.save(path, np.zeros((3, size), rng.choice(kinds)))
    elif kind == "objects":
        header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
        path.write_bytes(npy(header) + pickled(canary))
    elif kind == "shape":
        np.save(
            path, np.zeros(rng.choice([(), (3,), (3, size + 1), (3, 1, size), (0, size)]), np.uint8)
        )
    elif kind == "fortran":
        np.save(path, np.asfortranarray(np.arange(3 * size, dtype=np.uint8).reshape(3, size)))
    elif kind == "huge":
        rows = 3 * 2**30 // size
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({rows}, {size + 1}), }}"
        path.write_bytes(npy(header))
        os.truncate(path, path.stat().st_size + rows * (size + 1))
    else:
        replace(path, rng, canary)
    return path


def hostile_npz(folder: Path, rng: Random, *, canary: Path) -> Path:
    """Write an .npz file that is none, or not of images: `data=npz` reads it."""
    path = folder / rng.choice(["a.npz", "c\x1b[2J.npz", "[x].npz"])
    images = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (40, 28, 28), }")
    members = {"images.npy": images + bytes(40 * 28 * 28)}
    kind = rng.choice(
        ["damage", "lies", "dtype", "objects", "shape", "labels", "names", "bomb", "header"]
        + ["directory", "replace"]
    )
    if kind == "lies":
        shape = rng.choice([(10**12, 28, 28), (10**18, 10**18), (-40, -28, 28), (2**40,), (0,)])
        members["images.npy"] = npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}")
    elif kind in ("dtype", "shape", "labels"):
        kinds = ["f8", "i4", "c16", "bool", "M8[s]", "S3", "U3", "u1,u1"]
        shapes = [(), (3,), (40, 28, 28, 2), (40, 1, 1, 1, 1), (40, 0, 28), (40, 5000, 1)]
        array: Any = np.zeros((40, 28, 28), rng.choice(kinds) if kind == "dtype" else "u1")
        if kind == "shape":
            array = np.zeros(rng.choice(shapes), "u1")
        name = "labels.npy" if kind == "labels" else "images.npy"
        if kind == "labels":
            array = np.full(rng.choice([40, 3]), rng.choice([-1, 2**20, 2**62, 1]))
        file = io.BytesIO()
        np.save(file, array)
        members[name] = file.getvalue()
    elif kind == "objects":
        header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
        members[rng.choice([*members, "labels.npy"])] = npy(header) + pickled(canary)
    elif kind == "names":
        extra = ["../images.npy", "/etc/passwd", "images", "\x1b[2J.npy", "a" * 60_000]
        members[rng.choice(extra)] = members.pop("images.npy")
    elif kind == "bomb":
        header = "{'descr': '|u1', 'fortran_order': False, 'shape': (120000, 28, 28), }"
        members["images.npy"] = npy(header) + bytes(120_000 * 28 * 28)
    elif kind == "header":
        nested = npy(rng.choice(["(" * 9000, "{" * 9000, "{'descr': " + "[" * 5000, "0" * 60_000]))
        members["images.npy"] = rng.choice([nested, b"\x93NUMPY\2\0\xff\xff\xff\xff", b"", b"\x93"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    if kind == "damage":
        path.write_bytes(damage(path.read_bytes(), rng))
    elif kind == "directory":  # sizes, method or flags of the central directory
        whole = path.read_bytes()
        place = whole.rindex(b"PK\1\2") + rng.choice([8, 10, 20, 24, 42])
        number = rng.choice([b"\xff" * 4, bytes(4), b"\1\0\0\0", b"\0\0\0\x7f"])
        path.write_bytes(whole[:place] + number + whole[place + 4 :])
    elif kind == "replace":
        replace(path, rng, canary)
    return path


def hostile_folder(folder: Path, rng: Random, *, canary: Path) -> Path:
    """Write a folder of images, or of classes, as `data=image_folder` reads it, not all right."""
    target = folder / rng.choice(["pictures", "p\x1b[2J", "[x]"])
    classes = rng.choice([[""], ["a", "b"], ["a\x1b[2J", "b\nc"], ["a" * 200], ["train", "b"]])
    for name in classes:
        (target / name).mkdir(parents=True)
        for number in range(8):
            Image.new("L", (28, 28), number).save(target / name / f"{number}.png")
    spoiled = target / rng.choice(classes)
    kind = rng.choice(["images", "images", "mixed", "empty", "replace", "loop", "nested", "locked"])
    if kind == "images":
        hostile_images(folder, rng, canary=canary)
        for path in (folder / "images").iterdir():
            path.rename(spoiled / f"x{path.name}")
    elif kind == "mixed":
        (target / "readme.txt").write_text("no image")
        (target / "c").mkdir()
    elif kind == "empty":
        shutil.rmtree(spoiled)
        spoiled.mkdir()
    elif kind == "replace":
        replace(spoiled / "0.png", rng, canary)
    elif kind == "loop":
        (spoiled / "self").symlink_to(target.resolve())
    elif kind == "nested":
        (spoiled / "deep" / "deeper").mkdir(parents=True)
    else:
        replace(spoiled, rng, canary)
    return target


def npy(header: str) -> bytes:
    """Return the beginning of a .npy file."""
    padded = header + " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode()


def hostile_images(folder: Path, rng: Random, *, canary: Path) -> Path:
    """Write a folder of images, some of which are none, huge or of unusual modes."""
    target = folder / "images"
    target.mkdir()
    for number in range(rng.choice([1, 1, 2, 4])):
        name = rng.choice(
            [f"{number}.png", f"{number}", f"{number}\x1b[2J.png", f"[b]{number}.jpg"]
        )
        path = target / name
        kind = rng.choice(["damage", "mode", "bomb", "replace", "size", "name", "text"])
        mode = rng.choice(["L", "1", "P", "RGB", "RGBA", "LA", "I;16", "CMYK", "F", "I"])
        if kind == "name":
            Image.new("L", (28, 28)).save(os.fsencode(target) + b"/\xff\xfe.png", format="PNG")
        elif kind == "text":
            path.write_bytes(text(rng).encode(errors="surrogatepass"))
        elif kind == "bomb":
            path.write_bytes(
                png(*rng.choice([(50_000, 50_000), (2**31 - 1, 1), (0, 0), (12_000, 12_000)]))
            )
        elif kind == "replace":
            path.touch()
            replace(path, rng, canary)
        else:
            size = (28, 28) if kind != "size" else rng.choice([(1, 1), (1, 5000), (3000, 3000)])
            file = io.BytesIO()
            form = {"CMYK": "JPEG", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
            Image.new(mode, size).save(file, format=form)
            path.write_bytes(damage(file.getvalue(), rng) if kind == "damage" else file.getvalue())
    return target


def png(width: int, height: int) -> bytes:
    """Return a small file that says to be a large image, of zeros as far as it goes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(min((width + 1) * height, 2**24)), 9)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


IDX = {
    "train-images-idx3-ubyte": (0x803, (60_000, 28, 28)),
    "train-labels-idx1-ubyte": (0x801, (60_000,)),
    "t10k-images-idx3-ubyte": (0x803, (10_000, 28, 28)),
    "t10k-labels-idx1-ubyte": (0x801, (10_000,)),
}


def hostile_idx(folder: Path, rng: Random, *, canary: Path) -> Path:
    """Write a root with the files of MNIST, Fashion-MNIST and KMNIST, not all of them right."""
    wrong = rng.choice(sorted(IDX))
    kind = rng.choice(["magic", "lies", "labels", "short", "long", "replace", "damage", "type"])
    for dataset in ("FashionMNIST", "KMNIST", "MNIST"):
        raw = folder / dataset / "raw"
        raw.mkdir(parents=True)
        for name, (magic, shape) in IDX.items():
            path, size = raw / name, int(np.prod(shape))
            header = struct.pack(f">I{len(shape)}I", magic, *shape)
            if name == wrong and kind == "magic":
                header = struct.pack(">I", rng.choice([0, 0x802, 0xFFFFFFFF])) + header[4:]
            elif name == wrong and kind == "type":
                header = struct.pack(">I", magic + 0x500) + header[4:]
            elif name == wrong and kind == "lies":
                lie = rng.choice([0, 1, 2**31, 2**32 - 1, shape[0] + 1])
                header = header[:4] + struct.pack(">I", lie) + header[8:]
            elif name == wrong and kind in ("short", "long"):
                size += -1 if kind == "short" else 1
            path.write_bytes(header)
            os.truncate(path, len(header) + size)  # sparse zeros
            if name == wrong and kind == "labels" and "labels" in name:
                with path.open("r+b") as file:
                    file.seek(8 + rng.randrange(size))
                    file.write(bytes([rng.choice([10, 200, 255])]))
            elif name == wrong and kind == "replace":
                replace(path, rng, canary)
            elif name == wrong and kind == "damage":
                path.write_bytes(damage(header, rng))
    return folder


BROKEN_YAML = (
    *("a: b: c", "\tx: 1", "x: 1\nx: 2", "[", "{a: 1", "x: [1, 2", "'", '"', "x: &a [*a]", "*a"),
    *("- 1\n- 2", "3", "text", "null", "", "---\na: 1\n---\nb: 2", "!!python/object:os.system x"),
    *("? {a: 1}\n: 2", "x: !!binary |\n  ???", "%YAML 9.9\n---\nx: 1", "x: 2026-99-99", "1: 2"),
    *("defaults: [broken]", "defaults: [_self_, broken]", "defaults: 3", "defaults: [nowhere]"),
    *(
        "defaults:\n- override /estimator: nowhere",
        "defaults: [{/model: null}]",
        "<<: 1",
        "x: \x00",
    ),
    *("_target_: 3", "_target_: ''", "_target_: stelab", "_target_: [a]", "_target_: nowhere.Nope"),
    *(
        "_target_: stelab.estimators.Identity\nx: 1",
        "slope: 1",
        "_target_: ...",
        "_target_: os.path",
    ),
    *(
        "_target_: stelab.estimators.Nope",
        "_target_: math.pi",
        "_target_: builtins.len",
        "# @package x",
    ),
    *(
        "# @package _global_\nseed: x",
        "_partial_: maybe",
        "x: ${x}",
        "x: ${y}\ny: ${x}",
        "x: ${",
        LAUGHS,
    ),
    *(
        "x: " + "[" * 2000,
        "x: " + "{a: " * 500 + "1" + "}" * 500,
        "x: " + "1" * 100_000,
        "\ufeffx: 1",
    ),
)


def hostile_yaml(folder: Path, rng: Random, *, canary: Path, healthy: str = "") -> Path:
    """Write a --config-dir whose estimator=broken is broken YAML, or not an estimator."""
    group = folder / "estimator"
    group.mkdir(parents=True)
    path = group / "broken.yaml"
    kind = rng.choice(["broken", "broken", "broken", "damage", "tree", "replace", "package"])
    healthy = healthy or "_target_: stelab.estimators.HardtanhClip\nbound: 1.0\n"
    if kind == "broken":
        path.write_text(rng.choice(BROKEN_YAML))
    elif kind == "damage":
        path.write_bytes(damage(healthy.encode(), rng))
    elif kind == "tree":
        path.write_bytes(dump_yaml(mutate(yaml.safe_load(healthy), rng, canary.with_name("own"))))
    elif kind == "package":
        path.write_text(f"# @package {text(rng)}\n{healthy}", errors="replace")
    else:
        path.touch()
        replace(path, rng, canary)
    return folder


KINDS: dict[str, Callable[..., Path]] = {
    "run": hostile_run,
    "codes": hostile_codes,
    "images": hostile_images,
    "npz": hostile_npz,
    "folder": hostile_folder,
    "idx": hostile_idx,
    "yaml": hostile_yaml,
}


def make(kind: str, folder: Path, seed: int, *, run: Path, canary: Path) -> Path:
    """Make one artefact in a folder that is made for it; return what to name to a command."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {"run": run} if kind == "run" else {}
    return KINDS[kind](folder, Random(seed), canary=canary, **options)


def main() -> None:
    """Write a folder of them, and say what was made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="a finished run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--kind", choices=KINDS, help="only of this kind")
    given = parser.parse_args()
    kinds = [given.kind] if given.kind else list(KINDS)
    canary = given.folder.resolve() / "canary"
    for number in range(given.count):
        kind, seed = kinds[number % len(kinds)], given.seed + number
        path = make(kind, given.folder / f"{kind}-{seed}", seed, run=given.run, canary=canary)
        print(str(path).encode("unicode_escape").decode())


if __name__ == "__main__":
    main()
