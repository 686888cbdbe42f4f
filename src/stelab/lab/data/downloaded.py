"""What all datasets share that torchvision downloads: verified files, or one clear message."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from stelab.engine.errors import InputError, first_line
from stelab.engine.terminal import visible
from stelab.lab.data.datamodule import ImageDataModule


class Downloaded(ImageDataModule):
    """A dataset in files that are looked for below `root`, else downloaded there.

    A dataset defines `dataset`, `pattern`, `files` and `verify`.

    Args:
        root: Folder that holds, or will hold, the dataset's folder.
        val_size: Images of the training set held out for validation, stratified.
        split_seed: Decides which.
        options: See `ImageDataModule`.

    Attributes:
        dataset: torchvision's class, which downloads.

    Raises:
        InputError: The files are absent and cannot be downloaded, or are damaged.
    """

    dataset: ClassVar[type[Any]]

    def __init__(self, *, root: str, val_size: int, split_seed: int, **options: Any):
        super().__init__(**options)
        self.root = root
        self.val_size = val_size
        self.split_seed = split_seed

    @property
    def pattern(self) -> str:
        """Return what the files are called, below `root`."""
        raise NotImplementedError(f"{type(self).__name__} must define pattern")

    @property
    def files(self) -> Sequence[Path]:
        """Return where all files belong."""
        raise NotImplementedError(f"{type(self).__name__} must define files")

    def verify(self, path: Path) -> None:
        """Raise ValueError or OSError unless a file holds what it should."""
        raise NotImplementedError(f"{type(self).__name__} must define verify(path)")

    def prepare_data(self) -> None:
        """Download what is missing, verify what is there."""
        missing = [path for path in self.files if not path.is_file()]
        blocked = [path for path in missing if os.path.lexists(path)]  # by a pipe, a folder, ...
        if missing and not blocked:
            self._download()
        for path in blocked or self.files:
            try:
                self.verify(path)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{path} is damaged: {first_line(error)}. Delete it to download it again, give "
                    "another data.root, or use data=mnist5k, which needs no download."
                ) from error

    def _download(self) -> None:
        name = self.dataset.__name__
        if not self.may_download:
            raise InputError(
                f"{name} is not whole in data.root={visible(self.root)}, where the run says that "
                "it is, and is not downloaded to there: give data=... (with data.root=FOLDER)"
            )
        try:
            self.dataset(self.root, download=True)
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise InputError(
                f"{name} is not whole in data.root={self.root} and cannot be downloaded there "
                f"({first_line(error)}). Give data.root=FOLDER with FOLDER/{self.pattern}, "
                "or use data=mnist5k, which needs no download."
            ) from error
