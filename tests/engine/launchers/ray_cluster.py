"""Ray clusters on this machine: ``ray_cluster.py two`` or ``ray_cluster.py growing``.

Prints the address. Of two nodes, any input removes the second. A growing one stands at zero: its
head takes no job, and its autoscaler adds one node with a processor and what it calls a GPU.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from ray.cluster_utils import Cluster


def two() -> None:
    """Two nodes, until the input ends."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    second = cluster.add_node(num_cpus=1)
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(second, allow_graceful=False)
        print("removed", flush=True)
    cluster.shutdown()


def growing() -> None:
    """A head and an autoscaler, until the input ends; the new node is a process here, too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    nothing: dict[str, object] = dict.fromkeys(("auth", "docker", "file_mounts"), {})
    nothing |= dict.fromkeys(
        ("cluster_synced_files", "initialization_commands", "setup_commands")
        + ("head_setup_commands", "worker_setup_commands", "head_start_ray_commands")
        + ("worker_start_ray_commands", "rsync_exclude", "rsync_filter"),
        [],
    )
    config = {
        **nothing,
        "cluster_name": "growing",
        "max_workers": 1,
        "upscaling_speed": 1,
        "idle_timeout_minutes": 10,
        "file_mounts_sync_continuously": False,
        "provider": {
            "type": "fake_multinode",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": address,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "GPU": 1},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 1,
            },
        },
    }
    # A folder of its own, short enough for sockets: Ray's usual one tells all where to connect.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        file = Path(folder, "cluster.json")
        file.write_text(json.dumps(config))
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--num-cpus=0"]
        options = [f"--port={address.split(':')[1]}", "--include-dashboard=false"]
        subprocess.run(
            [*ray, *options, f"--temp-dir={folder}", f"--autoscaling-config={file}"],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        print(address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    {"two": two, "growing": growing}[sys.argv[1]]()
