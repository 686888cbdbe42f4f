"""Event files, TensorBoard's own format."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

Step = tuple[int, Summary]


def write_events(path: Path, steps: Iterable[Step]) -> None:
    """Write a whole event file; its name must hold ``tfevents``."""
    file = io.BytesIO()
    records = RecordWriter(file)
    records.write(Event(file_version="brain.Event:2").SerializeToString())
    for step, summary in steps:
        event = Event(wall_time=time.time(), step=step, summary=summary)
        records.write(event.SerializeToString())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.getvalue())


def scalar(tag: str, value: float) -> Summary:
    """Return a point of a curve."""
    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def picture(path: Path) -> Summary:
    """Return a PNG file as ``figures/<name>``."""
    with Image.open(path) as image:
        width, height = image.size
    content = Summary.Image(width=width, height=height, encoded_image_string=path.read_bytes())
    return Summary(value=[Summary.Value(tag=f"figures/{path.stem}", image=content)])
