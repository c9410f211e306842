#!/bin/bash
# A real Slurm on this computer alone, for tests: munge, slurmctld and two slurmd (nodes n1, n2), all on loopback, all
# files in one folder, no systemd. Root only. Each command may be repeated.
#
#   slurm.sh install     Debian's packages (needs apt; starts nothing)
#   slurm.sh start       munged, slurmctld, n1, n2; returns when both nodes are idle
#   slurm.sh env         what a shell needs: eval "$(slurm.sh env)"
#   slurm.sh status      sinfo, squeue, what listens
#   slurm.sh stop        ends jobs and daemons, removes the folder
#   slurm.sh drop NODE   kill -9 of a node's slurmd and its job steps (a machine that dies); `start` brings it back
set -u
DIR=${NBLB_SLURM:-/tmp/nblb-slurm}
PORT=${NBLB_SLURM_PORT:-17817}           # slurmctld; the nodes take the next two
CPUS=${NBLB_SLURM_CPUS:-4}               # of each node: may be more than there are, see config_overrides
export SLURM_CONF=$DIR/slurm.conf
export PATH=$PATH:/usr/sbin:/sbin
HOST=$(hostname -s)
CGROUPS=/sys/fs/cgroup

complain() { echo "slurm.sh: $*" >&2; }

install() {
    if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null; then return; fi
    # Debian's packages start their services where there is an init; for this time a policy forbids it.
    local policy=/usr/sbin/policy-rc.d mine=
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; mine=1; }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 \
        slurmctld slurmd slurm-client munge >&2
    [ -z "$mine" ] || rm -f $policy
}

configure() {
    mkdir -p "$DIR"/{state,munge,log,spool.n1,spool.n2}
    chmod 755 "$DIR" "$DIR/munge"; chmod 700 "$DIR/state"
    [ -s "$DIR/munge/key" ] || (umask 077; head -c 1024 /dev/urandom > "$DIR/munge/key")
    # With cgroups of version 1 at hand jobs are contained and --mem is a real limit; else processes are followed by their
    # parents, and one that outlives the batch script's shell and ignores SIGTERM is left behind.
    local track=linuxproc task=none
    echo CgroupPlugin=cgroup/v1 > "$DIR/cgroup.conf"   # asked for, and not used
    if [ -w $CGROUPS/freezer/cgroup.procs ] && [ -w $CGROUPS/memory/cgroup.procs ]; then
        track=cgroup task=cgroup
        printf '%s\n' CgroupPlugin=cgroup/v1 CgroupMountpoint=$CGROUPS CgroupAutomount=no ConstrainRAMSpace=yes \
            > "$DIR/cgroup.conf"
    fi
    cat > "$SLURM_CONF" <<CONF
ClusterName=here
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/socket
CredType=cred/munge
# Loopback alone: without these two every daemon listens on all addresses.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$DIR/state
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmctldLogFile=$DIR/log/slurmctld
SlurmdPidFile=$DIR/slurmd.%n.pid
SlurmdLogFile=$DIR/log/slurmd.%n
SlurmdSpoolDir=$DIR/spool.%n
ProctrackType=proctrack/$track
TaskPlugin=task/$task
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$DIR/log/jobcomp
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
KillWait=5
MinJobAge=300
ReturnToService=2
SlurmdTimeout=15
SlurmctldTimeout=30
MessageTimeout=10
JobRequeue=1
NodeName=n1 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT + 1)) CPUs=$CPUS RealMemory=4000
NodeName=n2 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT + 2)) CPUs=$CPUS RealMemory=4000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
PartitionName=short Nodes=n1,n2 MaxTime=2 DefaultTime=1 State=UP
CONF
}

# A zombie, which nobody may be there to wait for, is not alive.
alive() { [ -s "$1" ] 2>/dev/null && grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$(cat "$1" 2>/dev/null)/status"; }

start() {
    install; configure
    alive "$DIR/munge/pid" || munged --force --key-file="$DIR/munge/key" --socket="$DIR/munge/socket" \
        --pid-file="$DIR/munge/pid" --log-file="$DIR/log/munged" --seed-file="$DIR/munge/seed" || return 1
    alive "$DIR/slurmctld.pid" || slurmctld || return 1
    local node
    for node in n1 n2; do alive "$DIR/slurmd.$node.pid" || slurmd -N $node || { complain "slurmd: see $DIR/log"; return 1; }; done
    local try
    for try in $(seq 150); do
        # idle*, with a star, is a node that has not answered yet.
        [ "$(sinfo -h -N -p main -o %t 2>/dev/null | grep -cE '^(idle|alloc|mix)$')" = 2 ] && return 0
        sleep 0.2
    done
    complain "the nodes did not come up; see $DIR/log"; sinfo >&2; return 1
}

drop() {
    alive "$DIR/slurmd.$1.pid" || return 0
    kill -9 "$(cat "$DIR/slurmd.$1.pid")"
    # The steps are no children of slurmd; what they have run is below them.
    local step
    for step in $(pgrep -x slurmstepd); do
        tr '\0' '\n' < /proc/$step/cmdline | grep -q "^slurmstepd" || continue
        [ "$(readlink /proc/$step/cwd)" = "$DIR/spool.$1" ] || grep -qs "/slurm_$1/" /proc/$step/cgroup || continue
        kill_tree $step
    done
    for step in $(cat $CGROUPS/freezer/slurm_$1/uid_*/job_*/step_*/cgroup.procs 2>/dev/null); do kill -9 $step 2>/dev/null; done
    rm -f "$DIR/slurmd.$1.pid"
}

kill_tree() {
    local child
    kill -STOP $1 2>/dev/null
    for child in $(pgrep -P $1); do kill_tree $child; done
    kill -9 $1 2>/dev/null
}

stop() {
    local try file
    if alive "$DIR/slurmctld.pid"; then
        scancel --quiet --state=PENDING; scancel --quiet --state=RUNNING; scancel --quiet --state=SUSPENDED
        for try in $(seq 60); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.2; done
    fi
    for file in "$DIR"/slurmd.n1.pid "$DIR"/slurmd.n2.pid "$DIR"/slurmctld.pid "$DIR"/munge/pid; do
        alive "$file" || continue
        kill "$(cat "$file")"
        for try in $(seq 50); do alive "$file" || break; sleep 0.1; done
        alive "$file" && kill -9 "$(cat "$file")"
    done
    find $CGROUPS/*/slurm_n[12] -depth -type d -exec rmdir {} + 2>/dev/null
    [ -n "${NBLB_SLURM_KEEP:-}" ] || rm -rf "$DIR"
    return 0
}

case ${1:-} in
    install|start|stop) "$1" ;;
    drop) drop "$2" ;;
    env) echo "export SLURM_CONF=$SLURM_CONF" ;;
    status) sinfo -N; squeue; ss -ltnp 2>/dev/null | grep -E 'slurm|munge' ;;
    *) sed -n '2,12p' "$0"; exit 2 ;;
esac
