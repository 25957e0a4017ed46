#!/usr/bin/env bash
# Bring up a throw-away Slurm on this machine, without systemd: a controller, four nodes (three with a pretended GPU),
# munge with a key of its own, everything on the loopback. No accounting: the state of jobs is asked of squeue.
#
#   tests/slurm/up.sh FOLDER        then: source FOLDER/env
#   tests/slurm/down.sh FOLDER      stops exactly what was started
#
# Status 77: Slurm is not here and cannot be installed; the reason is on standard output. Outside FOLDER it writes one
# link, /etc/slurm/slurm.conf, since the job steps that Snakemake starts do not keep SLURM_CONF.
set -euo pipefail
PATH=$PATH:/usr/sbin # where Debian has the daemons
folder=$(realpath -m "$1")
port=${SLURM_PORT:-16900}

skip() { echo "$1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root, since slurmd starts jobs under their owners' names"
[ ! -e /etc/slurm/slurm.conf ] || [ -L /etc/slurm/slurm.conf ] || skip "/etc/slurm/slurm.conf is a real one: a cluster's node"
missing=()
for package in slurmctld slurmd slurm-client munge; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || skip "no Slurm here, and no apt-get to install it"
    if [ ! -e /usr/sbin/policy-rc.d ]; then # that the packages start no daemons
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}"; } >/dev/null 2>&1 || skip "no Slurm here, and apt-get cannot install ${missing[*]}"
fi

mkdir -p "$folder"/{state,spool,log,run}
host=$(hostname -s)
start() { # NAME COMMAND...: in a session of its own, its process id kept
    setsid "${@:2}" >"$folder/log/$1.out" 2>&1 </dev/null &
    echo "$! $1" >>"$folder/processes"
}
wait_for() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    until "${@:2}" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "waited in vain: ${*:2}" >&2; tail -n 5 "$folder"/log/* >&2; exit 1; }
        sleep 0.1
    done
}

(umask 077; dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none)
start munged munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/run/munge.sock" \
    --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/run/munge.seed"
wait_for 10 munge -n -S "$folder/run/munge.sock"

# cred_expire: a job queued again after its node failed may start after so many seconds (usually 120).
cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.sock,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmdTimeout=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
ReturnToService=2
MpiDefault=none
LaunchParameters=disable_send_gids
MinJobAge=600
KillWait=10
UnkillableStepTimeout=10
MailProg=/bin/true
DefMemPerCPU=500
GresTypes=gpu
AccountingStorageType=accounting_storage/none
PartitionName=cpu Nodes=n4 Default=YES MaxTime=1440 State=UP
PartitionName=gpu Nodes=n[1-3] MaxTime=1440 State=UP
CONF
for node in 1 2 3 4; do
    gres=$([ $node = 4 ] || echo "Gres=gpu:1")
    echo "NodeName=n$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 10 + node)) CPUs=2 RealMemory=16000 $gres" \
        >>"$folder/slurm.conf"
    mkdir -p "$folder/spool/n$node"
done
echo "NodeName=n[1-3] Name=gpu File=/dev/null" >"$folder/gres.conf"
echo "export SLURM_CONF=$folder/slurm.conf" >"$folder/env"
export SLURM_CONF="$folder/slurm.conf"
mkdir -p /etc/slurm
ln -sfn "$folder/slurm.conf" /etc/slurm/slurm.conf

start slurmctld slurmctld -D -c
wait_for 15 scontrol ping
for node in n1 n2 n3 n4; do start "slurmd-$node" slurmd -D -N "$node"; done
all_idle() { [ "$(sinfo -h -N -t idle -o %N | wc -l)" = 4 ]; }
wait_for 30 all_idle
