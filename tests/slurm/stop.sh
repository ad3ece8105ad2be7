#!/usr/bin/env bash
# End what tests/slurm/start.sh DIR started, with its jobs. DIR stays.
set -u
dir=$(cd "${1:?which folder?}" && pwd)
export SLURM_CONF=$dir/slurm.conf
scancel --user="$(id -un)" 2>/dev/null
for _ in $(seq 40); do
  [ -n "$(squeue --noheader 2>/dev/null)" ] || break
  sleep 0.5
done
for file in "$dir"/slurmd-*.pid "$dir/slurmctld.pid" "$dir/munge/pid"; do
  [ -f "$file" ] && kill "$(cat "$file")" 2>/dev/null
done
exit 0
