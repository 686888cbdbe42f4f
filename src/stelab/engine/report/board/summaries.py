"""What event files hold of a study: hyperparameters, means of groups, their charts, pictures.

TensorBoard's own messages are filled in: torch's `SummaryWriter` knows neither failed runs, nor
when one began, nor closed chapters of custom scalars. It would also bring torch along (2.8 instead
of 1.6 s of CPU and 670 instead of 205 MiB before anything is shown) and choose the names of files,
which here decide their order.
"""

import io
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.util.tensor_util import make_tensor_proto

from stelab.engine.comparison import Comparison
from stelab.engine.files import read_bounded
from stelab.engine.project import project
from stelab.engine.report.numbers import percent
from stelab.engine.studies.headline import Headline
from stelab.engine.terminal import visible

Settings = dict[str, str | int | float]
Step = tuple[int, Summary]

FEW = 10  # numbers in a list to tick; more are an interval
_STATUS = {"finished": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
_LARGEST = 16 * 2**20  # bytes of a PNG file

log = logging.getLogger(__name__)


def experiment(runs: Sequence[Settings], metrics: Sequence[str]) -> Summary:
    """Return the columns of the HParams tab: a setting with its domain each, a metric each."""
    keys = dict.fromkeys(key for settings in runs for key in settings)
    columns = []
    for key in keys:
        values = sorted({settings[key] for settings in runs if key in settings})
        domain = summary_v2.Discrete(values)
        if len(values) > FEW and not isinstance(values[0], str):
            domain = summary_v2.RealInterval(float(values[0]), float(values[-1]))
        columns.append(summary_v2.HParam(key, domain))
    return summary_v2.hparams_config_pb(columns, [summary_v2.Metric(name) for name in metrics])


def ended(status: str, seconds: float | None) -> Summary:
    """Return how a run ended, and when, for its row in the HParams tab."""
    info = plugin_data_pb2.SessionEndInfo(status=_STATUS[status], end_time_secs=seconds)
    data = plugin_data_pb2.HParamsPluginData(session_end_info=info)
    tag, content = metadata.SESSION_END_INFO_TAG, metadata.create_summary_metadata(data)
    value = Summary.Value(tag=tag, metadata=content, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])


def curve_names(comparison: Comparison) -> list[str]:
    """Return the metrics that have a value an epoch, losses first."""
    names = [name for name in comparison.study.curves.columns if "/" in name]
    headline = comparison.study.headline(comparison.runs) or Headline.of({})
    first = (*headline.live, *reversed(project().losses))
    rest = [name for name in names if name.startswith(project().families)]
    return [name for name in first if name in names] + rest


def mean_runs(comparison: Comparison) -> dict[str, list[Step]]:
    """Return a run for each line of a figure; the mean of one replicate has a band of no width."""
    curves = comparison.curves
    lines = curves["group"].map(comparison.line_of)
    # Lightning logs an epoch at its last step, counted from 0.
    steps = curves.groupby([lines, "epoch"], as_index=False)["step"].max()
    names = curve_names(comparison)
    table = pd.concat([comparison.mean_curves(name).assign(metric=name) for name in names])
    table = table.merge(steps.assign(step=steps["step"] - 1), on=["group", "epoch"])
    for end in ("low", "high"):
        table[end] = table[end].where(table["n"] > 1, table["mean"])
    runs = {}
    for line in comparison.lines:
        rows = table[table["group"] == line]
        n = rows["n"].max()
        name = f"mean of {line} ({f'n = {n}' if n > 1 else 'n = 1, no interval'})"
        points = [
            (row["step"], Summary.Value(tag=f"{part}/{row['metric']}", simple_value=row[column]))
            for row in rows.to_dict("records")
            for part, column in (("mean", "mean"), ("lower", "low"), ("upper", "high"))
        ]
        runs[name] = [(step, Summary(value=[value])) for step, value in points]
    return runs


def layout(means: Sequence[str], headline: Headline, *, confidence: float) -> Summary:
    """Lay out the page of custom scalars; only the chapters of the headline metric are open."""
    kind = f"means with {percent(confidence)} intervals"
    all_runs = [
        layout_pb2.Chart(title=name, multiline={"tag": [f"^(mean/)?{name}$"]})
        for name in headline.live
    ]
    chapters = {f"{headline.metric}: {kind}": [], f"{headline.metric}: all runs": all_runs}
    for name in means:
        family, _, measure = name.partition("/")
        title = measure if family in ("train", "val") else family
        band = {"value": f"mean/{name}", "lower": f"lower/{name}", "upper": f"upper/{name}"}
        chart = layout_pb2.Chart(title=name, margin={"series": [band]})
        chapters.setdefault(f"{title}: {kind}", []).append(chart)
    categories = [
        layout_pb2.Category(title=title, chart=charts, closed=not title.startswith(headline.metric))
        for title, charts in chapters.items()
        if charts
    ]
    value = Summary.Value(
        tag=custom_scalars.CONFIG_SUMMARY_TAG,
        metadata=custom_scalars.create_summary_metadata(),
        tensor=make_tensor_proto(layout_pb2.Layout(category=categories).SerializeToString()),
    )
    return Summary(value=[value])


def pictures(folder: Path) -> list[Summary]:
    """Return the PNG files of a folder as ``figures/<name>``; warn of what is none."""
    summaries = []
    for path in sorted(folder.glob("*.png")):
        try:
            content = read_bounded(path, limit=_LARGEST)
            width, height = _size(content)
        except (OSError, ValueError) as error:
            log.warning("%s is not shown: %s", visible(str(path)), error)
            continue
        image = Summary.Image(width=width, height=height, encoded_image_string=content)
        value = Summary.Value(tag=f"figures/{visible(path.stem)}", image=image)
        summaries.append(Summary(value=[value]))
    return summaries


def _size(png: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.verify()
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError("it is no whole PNG file") from error
