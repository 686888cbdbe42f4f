"""The HParams tab: what was swept, over which values, and how each run ended."""

from __future__ import annotations

from collections.abc import Sequence

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2

Settings = dict[str, str | int | float]

FEW = 10
"""Numbers in a list to tick; more are an interval."""

_STATUS = {"finished": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}


def experiment(runs: Sequence[Settings], metrics: Sequence[str]) -> Summary:
    """Return the columns: a setting with its domain each, a metric each."""
    keys = dict.fromkeys(key for settings in runs for key in settings)
    columns = [
        summary_v2.HParam(key, _domain([settings[key] for settings in runs if key in settings]))
        for key in keys
    ]
    return summary_v2.hparams_config_pb(columns, [summary_v2.Metric(name) for name in metrics])


def _domain(values: Sequence[str | int | float]) -> summary_v2.Domain:
    distinct = sorted(set(values))
    if len(distinct) <= FEW or isinstance(distinct[0], str):
        return summary_v2.Discrete(distinct)
    return summary_v2.RealInterval(float(distinct[0]), float(distinct[-1]))


def begun(settings: Settings, name: str, seconds: float | None) -> Summary:
    """Return a row: a run's settings, its name and when it began."""
    return summary_v2.hparams_pb(settings, trial_id=name, start_time_secs=seconds)


def ended(status: str, seconds: float | None) -> Summary:
    """Return how a run ended, and when."""
    info = plugin_data_pb2.SessionEndInfo(status=_STATUS[status], end_time_secs=seconds)
    content = metadata.create_summary_metadata(
        plugin_data_pb2.HParamsPluginData(session_end_info=info)
    )
    tag, nothing = metadata.SESSION_END_INFO_TAG, metadata.NULL_TENSOR
    return Summary(value=[Summary.Value(tag=tag, metadata=content, tensor=nothing)])
