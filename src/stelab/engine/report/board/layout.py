"""The page of custom scalars: means of groups with their intervals, curves of all runs."""

from __future__ import annotations

from collections.abc import Sequence

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.util.tensor_util import make_tensor_proto

from stelab.engine.project import project
from stelab.engine.report.numbers import percent


def layout(means: Sequence[str], *, confidence: float) -> Summary:
    """Lay out charts.

    Args:
        means: Metrics of which there are means; a chart each.
        confidence: Of their intervals.
    """
    kind = f"means with {percent(confidence)} intervals"
    _, _, headline = project().metric.partition("/")
    all_runs = [_all_runs(name) for name in project().live]
    charts = {f"{headline}: {kind}": [], f"{headline}: all runs": all_runs}
    for name in means:
        family, _, measure = name.partition("/")
        title = measure if family in ("train", "val") else family
        charts.setdefault(f"{title}: {kind}", []).append(_band(name))
    categories = [
        layout_pb2.Category(title=title, chart=shown, closed=not title.startswith(headline))
        for title, shown in charts.items()
        if shown
    ]
    content = make_tensor_proto(layout_pb2.Layout(category=categories).SerializeToString())
    described = metadata.create_summary_metadata()
    value = Summary.Value(tag=metadata.CONFIG_SUMMARY_TAG, metadata=described, tensor=content)
    return Summary(value=[value])


def _band(name: str) -> layout_pb2.Chart:
    band = {"value": f"mean/{name}", "lower": f"lower/{name}", "upper": f"upper/{name}"}
    return layout_pb2.Chart(title=name, margin={"series": [band]})


def _all_runs(name: str) -> layout_pb2.Chart:
    return layout_pb2.Chart(title=name, multiline={"tag": [f"^(mean/)?{name}$"]})
