#!/usr/bin/env bash
# usage: tests/slurm/start_cluster.sh [--while PID] FOLDER
#        tests/slurm/start_cluster.sh --stop FOLDER
#
# Starts a real Slurm on this machine, for tests: munged, slurmctld and two slurmd (nodes deep1 and deep2, two processors
# each). All files are in FOLDER and all ports are free ones, so another Slurm on this machine is not disturbed. Prints the
# line that a shell needs to use the cluster: export SLURM_CONF=FOLDER/slurm.conf. Needs root and Debian's packages slurm-wlm
# and munge (tests/install_packages.sh). --stop ends the jobs and the daemons; with --while they also end when the process PID
# does. If Slurm cannot run here, the status is 77 and the reason is printed.
set -euo pipefail

say() { echo "start_cluster.sh: $*" >&2; }
cannot() { say "$*"; exit 77; }

action=start owner=
while [ $# -gt 1 ]; do
  case $1 in
    --while) owner=$2; shift ;;
    --stop) action=stop ;;
    *) say "unknown option $1"; exit 2 ;;
  esac
  shift
done
[ $# -eq 1 ] && [ "${1#-}" = "$1" ] || { say "usage: start_cluster.sh [--while PID] FOLDER, or --stop FOLDER"; exit 2; }
mkdir -p "$1"
folder=$(realpath "$1")
export SLURM_CONF=$folder/slurm.conf
PATH=$PATH:/usr/sbin:/sbin

# ended NAME: wait at most 5 seconds until a daemon is gone or a zombie.
ended() {
  local state
  for _ in $(seq 50); do
    state=$(sed 's/.*) //;s/ .*//' "/proc/$(cat "$folder/$1.pid")/stat" 2>/dev/null || true)
    case $state in '' | Z) return 0 ;; esac
    sleep 0.1
  done
  return 1
}

stop() {
  local name
  [ -f "$folder/slurm.conf" ] || return 0
  if [ -f "$folder/slurmctld.pid" ]; then
    timeout 5 scancel --user "$(id -un)" 2>/dev/null || true
    for _ in $(seq 100); do  # their processes take a moment to end
      [ -n "$(timeout 5 squeue --noheader 2>/dev/null)" ] || break
      sleep 0.1
    done
  fi
  for name in deep1 deep2 slurmctld munged; do
    [ -f "$folder/$name.pid" ] || continue
    kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
    ended "$name" || kill -9 "$(cat "$folder/$name.pid")" 2>/dev/null || true
    rm -f "$folder/$name.pid"
  done
}

if [ $action = stop ]; then
  if [ -f "$folder/watch.pid" ] && [ "$(cat "$folder/watch.pid")" != $$ ]; then kill "$(cat "$folder/watch.pid")" || true; fi
  rm -f "$folder/watch.pid"
  stop
  exit 0
fi

[ "$(id -u)" = 0 ] || cannot "needs root: slurmd starts jobs as their users"
if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null; then
  cannot "slurm-wlm and munge are not installed"
fi

stop
rm -rf "$folder/state"
mkdir -p "$folder/state" "$folder/deep1" "$folder/deep2"
chmod 700 "$folder/state"
[ -f "$folder/munge.key" ] || (umask 077; head -c 1024 /dev/urandom >"$folder/munge.key")
read -ra ports < <(python3 -c '
import socket
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*[each.getsockname()[1] for each in taken])')
host=$(hostname)
cat >"$folder/slurm.conf" <<END
ClusterName=deepspeaker-tests
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it starts again.
AuthInfo=socket=$folder/munge.socket,cred_expire=6
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/state/slurmctld.pid
SlurmdPidFile=$folder/%n/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1
ReturnToService=2
KillWait=8
NodeName=deep1 NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=2 RealMemory=4000
NodeName=deep2 NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=2 RealMemory=4000
PartitionName=all Nodes=deep1,deep2 Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=500
END
: >"$folder/cgroup.conf"

# daemon NAME COMMAND...: start a daemon in a new session, so that Ctrl-C in the terminal of the tests does not end it, and
# without open descriptors of the caller (locks, pipes).
daemon() {
  local name=$1 descriptor
  shift
  (
    for descriptor in /proc/self/fd/*; do
      descriptor=${descriptor##*/}
      [ "$descriptor" -le 2 ] || eval "exec $descriptor>&-"
    done
    exec setsid "$@"
  ) </dev/null >"$folder/$name.out" 2>&1 &
  echo $! >"$folder/$name.pid"
}

failed() {
  say "$1 did not start: $(tail -n 1 "$folder/$2" 2>/dev/null); more in $folder"
  stop
  exit 1
}

if [ -n "$owner" ]; then
  # shellcheck disable=SC2016  # for the shell that waits
  daemon watch bash -c 'while kill -0 "$1"; do sleep 1; done; exec "$2" --stop "$3"' - "$owner" "$0" "$folder"
fi
daemon munged munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
  --pid-file="$folder/state/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/state/munged.seed" --num-threads=2
for _ in $(seq 100); do [ ! -S "$folder/munge.socket" ] || break; sleep 0.1; done
[ -S "$folder/munge.socket" ] || failed munged munged.out
daemon slurmctld slurmctld -D -c -f "$SLURM_CONF"
daemon deep1 slurmd -D -f "$SLURM_CONF" -N deep1
daemon deep2 slurmd -D -f "$SLURM_CONF" -N deep2
for _ in $(seq 150); do
  if [ "$(timeout 5 sinfo --noheader -N -t idle -o %N 2>/dev/null | wc -l)" = 2 ]; then
    echo "export SLURM_CONF=$SLURM_CONF"
    exit 0
  fi
  sleep 0.2
done
failed Slurm slurmctld.log
