"""Checkpoints on disk: whole, or not there."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from stelab.studies.files import write_atomically

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"

# torch writes a zip archive; it may end in a comment, whose length stands in its last two bytes.
_PREFIX = b"sha256:"
_COMMENT = len(_PREFIX) + 64

log = logging.getLogger(__name__)


class SealedCheckpointIO(TorchCheckpointIO):
    """Writes torch's own format, atomically, with a checksum as the comment of the archive.

    ``torch.load(path, weights_only=True)`` reads it, and `is_whole` tells whether it may.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Serialize, seal, write, flush to disk, rename."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        buffer.seek(-2, io.SEEK_END)
        buffer.write(_COMMENT.to_bytes(2, "little"))
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
        buffer.write(_PREFIX + digest.encode())
        write_atomically(Path(path), buffer.getbuffer())


def is_whole(path: Path) -> bool:
    """Tell whether a checkpoint's checksum is that of its content."""
    content = memoryview(path.read_bytes())
    archive, comment = content[:-_COMMENT], bytes(content[-_COMMENT:])
    return comment == _PREFIX + hashlib.sha256(archive).hexdigest().encode()


def newest_whole(folder: Path) -> Path | None:
    """Return the newest undamaged checkpoint that a run can continue from, if there is one.

    Damaged ones are deleted, with a warning.
    """
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        if is_whole(path):
            return path
        log.warning("%s is damaged (its checksum is wrong): going back to the one before", path)
        path.unlink()
    return None
