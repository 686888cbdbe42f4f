#!/usr/bin/env bash
# A SLURM of this one node, of Debian's packages, in a scratch folder: no systemd, no cgroups, no
# accounting database, no root file system touched.
# usage: slurm_cluster.sh start FOLDER [LINE OF slurm.conf ...]
#        slurm_cluster.sh stop FOLDER           Its commands need SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail

command=$1
root=$(mkdir -p -- "$2" && cd -- "$2" && pwd)
shift 2
more=("$@")
export SLURM_CONF=$root/slurm.conf PATH=$PATH:/usr/sbin

start() {
    install_packages
    configure
    munged --force --key-file="$root/munge/key" --socket="$root/munge/socket" \
        --pid-file="$root/munge/pid" --log-file="$root/munge/log" --seed-file="$root/munge/seed" \
        2>"$root/munge/errors"
    slurmctld -c -i
    slurmd -c
    for _ in $(seq 120); do
        sinfo --noheader --format=%T 2>/dev/null | grep -q idle && return
        sleep 0.25
    done
    tail -vn 20 -- "$root/slurmctld.log" "$root/slurmd.log" >&2
    fail "the node did not become idle"
}

stop() {
    local pid
    scancel --quiet --user="$(id -un)" 2>/dev/null || true
    for pid in slurmd.pid slurmctld.pid munge/pid; do
        if [ -f "$root/$pid" ]; then kill "$(cat "$root/$pid")" 2>/dev/null || true; fi
    done
}

install_packages() {
    command -v munged slurmctld slurmd >/dev/null && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        fail "slurm-wlm and munge are not installed, and only root can: apt-get install slurm-wlm munge"
    # Without its lists brought up to date, the packages may still be there.
    { apt-get update || true; DEBIAN_FRONTEND=noninteractive apt-get install --yes slurm-wlm munge; } \
        >"$root/apt.log" 2>&1 || fail "apt-get could not install slurm-wlm and munge: see $root/apt.log"
}

configure() {
    local host user memory
    host=$(hostname -s) user=$(id -un)
    memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    mkdir -p "$root/state" "$root/spool"
    install --directory --mode=700 "$root/munge"
    head -c 128 /dev/urandom >"$root/munge/key"
    chmod 400 "$root/munge/key"
    # Two processors whatever the machine has, so that two jobs run and the others wait. Requeued
    # jobs start after cred_expire seconds instead of two minutes.
    cat >"$SLURM_CONF" <<CONF
ClusterName=scratch
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$root/munge/socket,cred_expire=5
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool
SlurmctldPidFile=$root/slurmctld.pid
SlurmdPidFile=$root/slurmd.pid
SlurmctldLogFile=$root/slurmctld.log
SlurmdLogFile=$root/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
ReturnToService=2
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=$memory State=UNKNOWN
PartitionName=low Nodes=$host Default=YES PriorityTier=1 State=UP
PartitionName=high Nodes=$host PriorityTier=2 State=UP
CONF
    printf '%s\n' "${more[@]}" >>"$SLURM_CONF"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

fail() {
    echo "slurm_cluster.sh: $*" >&2
    exit 1
}

"$command"
