#!/usr/bin/env bash
# Start a Slurm of this machine alone, as root, without systemd, cgroups or accounting: for tests.
#
#     tests/slurm/start.sh [--install] DIR [NODES]
#
# DIR is new; everything of this Slurm is in it, DIR/jobcomp.txt lists the jobs that ended. NODES
# (default 1) are daemons that share the machine. Then: export SLURM_CONF=DIR/slurm.conf
# It ends with tests/slurm/stop.sh DIR. --install runs apt-get (Debian, Ubuntu) first.
set -euo pipefail

if [ "${1:-}" = --install ]; then
  shift
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends slurm-wlm munge
fi
mkdir -p "${1:?which folder?}"
dir=$(cd "$1" && pwd)
nodes=${2:-1}
user=$(id -un)
host=$(hostname -s)
cpus=$(nproc)
memory=$(awk "/^MemTotal/ { print int(\$2 / 1024) }" /proc/meminfo) # MB; without it every job that asks for some is refused
((cpus >= 2)) || cpus=2 # a cell of two tasks must fit
PATH=$PATH:/usr/sbin:/sbin

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

chmod 755 "$dir"
mkdir -p "$dir/munge" "$dir/state" "$dir/spool"
chmod 755 "$dir/munge"
(umask 077 && head -c 128 /dev/urandom >"$dir/munge/key")
munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" \
  --pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"

cat >"$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
# A requeued job waits so long before it starts again; the default is two minutes.
AuthInfo=socket=$dir/munge/socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/jobcomp.txt
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=10
ReturnToService=2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
names=("$host") # processes of a job find each other by this name
((nodes == 1)) || names=($(seq --format="$host-%g" "$nodes"))
for name in "${names[@]}"; do
  echo "NodeName=$name NodeHostname=$host NodeAddr=127.0.0.1 Port=$(free_port) CPUs=$cpus RealMemory=$memory State=UNKNOWN" >>"$dir/slurm.conf"
done

export SLURM_CONF=$dir/slurm.conf
slurmctld
for name in "${names[@]}"; do
  mkdir -p "$dir/spool/$name"
  slurmd -N "$name"
done
for _ in $(seq 60); do
  if [ "$(sinfo --noheader --Node --states=idle 2>/dev/null | wc -l)" = "$nodes" ]; then
    echo "$SLURM_CONF"
    exit 0
  fi
  sleep 0.5
done
echo "Slurm did not come up; see the logs in $dir" >&2
tail -n 20 "$dir"/*.log >&2
"$(dirname "$0")/stop.sh" "$dir"
exit 1
