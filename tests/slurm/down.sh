#!/usr/bin/env bash
# Stop what up.sh started in a folder, by process id, the nodes first.
set -uo pipefail
folder=$(realpath -m "$1")
[ -e "$folder/processes" ] || exit 0
# A number may be another process's by now: it must still be the daemon that was started.
ours() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ]; }
SLURM_CONF=$folder/slurm.conf timeout 5 scancel -u "$(id -un)" 2>/dev/null
for daemon in slurmd slurmctld munged; do
    ids=$(awk -v d="$daemon" '{name = $2; sub(/-n[0-9]+$/, "", name)} name == d {print $1}' "$folder/processes")
    for id in $ids; do ours "$id" "$daemon" && kill -TERM "$id"; done
    for id in $ids; do
        for _ in $(seq 100); do ours "$id" "$daemon" || break; sleep 0.1; done
        ours "$id" "$daemon" && kill -KILL "$id"
    done
done
rm -f "$folder/processes"
[ "$(readlink /etc/slurm/slurm.conf 2>/dev/null)" = "$folder/slurm.conf" ] && rm -f /etc/slurm/slurm.conf
exit 0
