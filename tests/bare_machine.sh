#!/usr/bin/env bash
# Runs ./run and ./test on a bare Debian, without Python and git, and prints what they took, failed and skipped.
#
#     sudo tests/bare_machine.sh                          # ./run, then ./test, on a new machine
#     sudo tests/bare_machine.sh run                      # one of them
#     sudo tests/bare_machine.sh --keep DIR               # a machine in this folder, which stays there
#     sudo tests/bare_machine.sh --in DIR test            # on a machine that was kept, with the files as they are now
#     sudo tests/bare_machine.sh --in DIR -- ./test tests/browser
#
# The machine is a folder (debootstrap's minbase) that is entered with mount, process, IPC and host name namespaces of
# its own. It shares the network, and takes this computer's Debian mirror, proxies and package index. SUITE names another
# release of Debian, MIRROR another mirror, TMPDIR another place for the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/environment.sh

SUITE=${SUITE:-bookworm}
HOME_THERE=/home/nblb # of root: the tests run as root, who may mount
CLONE=$HOME_THERE/clone

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

machine="" kept=false new=true
commands=()
while [ $# -gt 0 ]; do
    case $1 in
        --keep | --in)
            [ $# -gt 1 ] || usage
            machine=$(realpath -m "$2") kept=true
            [ "$1" = --keep ] || new=false
            shift
            ;;
        run | test) commands+=("./$1") ;;
        --)
            shift
            commands+=("$*")
            break
            ;;
        *) usage ;;
    esac
    shift
done
[ ${#commands[@]} -gt 0 ] || commands=(./run ./test)

if [ "$(id -u)" != 0 ]; then
    echo "Only root can make and enter a machine: run this with sudo." >&2
    exit 2
fi
if $new && [ -n "$machine" ] && [ -e "$machine" ]; then
    echo "$machine is there already: --in $machine runs on it, --keep wants a folder that is to be made." >&2
    exit 2
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/nblb-bare.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
$kept || machine=$work/machine

# sources: "MIRROR RELEASE COMPONENT" for each archive of this computer that belongs to $SUITE
sources() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        awk -v suite="$SUITE" '$2 ~ "^" suite "(-updates|-security)?$" && !seen[$0]++'
}

# settings_of_pip: this computer's package index and the way to it, as a pip.conf; without folders of this computer
settings_of_pip() {
    local keys='index-url\|extra-index-url\|trusted-host\|proxy\|timeout\|default-timeout\|retries'
    echo "[global]"
    { python3 -m pip config list 2>/dev/null || true; } |
        sed -n "/file:/d; s/^[^.]*\.\($keys\)='\(.*\)'\$/\1 = \2/p" | sed 's/^default-timeout/timeout/' | sort -u -t= -k1,1
    [ ! -e "$machine/etc/host-certificates.crt" ] || echo "cert = /etc/host-certificates.crt"
}

make_machine() {
    local mirror certificates
    command -v debootstrap >/dev/null || debian debootstrap || {
        echo "debootstrap is needed; install it first." >&2
        exit 2
    }
    mirror=${MIRROR:-$(sources | awk -v suite="$SUITE" '$2 == suite {print $1; exit}')}
    if [ -z "$mirror" ]; then
        echo "This computer has no mirror of Debian $SUITE among its sources: set MIRROR to one." >&2
        exit 2
    fi
    say "making a bare Debian $SUITE"
    debootstrap --variant=minbase "$SUITE" "$machine" "$mirror" >"$work/debootstrap" 2>&1 || {
        tail -n 20 "$work/debootstrap" >&2
        echo "debootstrap could not make a Debian $SUITE from $mirror." >&2
        exit 2
    }
    { echo "$mirror $SUITE main"; sources; } | sed 's/^/deb /' | sort -u >"$machine/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::(.*::Proxy|Check-Valid-Until)' >"$machine/etc/apt/apt.conf.d/90host" || true
    cat /etc/resolv.conf >"$machine/etc/resolv.conf"
    printf '127.0.0.1 localhost bare\n::1 localhost\n' >"$machine/etc/hosts"
    certificates=${PIP_CERT:-${SSL_CERT_FILE:-}}
    [ -z "$certificates" ] || cp "$certificates" "$machine/etc/host-certificates.crt"
    settings_of_pip >"$machine/etc/pip.conf"
}

# copy_files: the repository's files as they are, what is not committed included, but nothing of git
copy_files() {
    mkdir -p "$machine$CLONE"
    find "$machine$CLONE" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
    git ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from=- --ignore-failed-read --warning=no-failed-read |
        tar --extract --no-same-owner --directory "$machine$CLONE"
}

# inside COMMAND: runs a line of shell on the machine, as its root, in the clone
inside() {
    local proxies=()
    mapfile -t proxies < <(env | grep -iE '^(https?|no)_proxy=' || true)
    unshare --mount --pid --ipc --uts --fork --kill-child=KILL bash -euc '
        machine=$1; shift
        hostname bare
        mount --make-rprivate /
        mount --bind "$machine" "$machine" # "/" is to be a mount point, as on any machine
        mount -t proc proc "$machine/proc"
        mount --rbind /sys "$machine/sys"
        mount --rbind /dev "$machine/dev"
        mount -t tmpfs -o mode=1777 tmpfs "$machine/dev/shm"
        cd "$machine"
        pivot_root . mnt
        umount --lazy mnt
        exec chroot . "$@"
    ' bash "$machine" /usr/bin/env -i "${proxies[@]}" HOME="$HOME_THERE" USER=root TERM="${TERM:-dumb}" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        bash -c "cd $CLONE && $1" </dev/null
}

# count WORD LOG: the number before it in pytest's last line
count() { grep -E '^=+ .* in [0-9.]+s' "$2" | tail -n 1 | sed -n "s/.*[ =]\([0-9]\+\) $1.*/\1/p"; }

if $new; then make_machine; fi
copy_files
worst=0
for number in "${!commands[@]}"; do
    log=$work/$number.log
    began=$SECONDS code=0
    say "${commands[number]}, on the bare machine"
    inside "${commands[number]}" 2>&1 | tee "$log" || code=$?
    [ "$code" = 0 ] || worst=1
    printf '%8s %6s %8s %8s %8s %8s  %s\n' $((SECONDS - began)) "$code" "$(count passed "$log")" \
        "$(count failed "$log")" "$(count error "$log")" "$(count skipped "$log")" "${commands[number]}" >>"$work/table"
done
printf '\n%8s %6s %8s %8s %8s %8s  %s\n' seconds exit passed failed errors skipped command
cat "$work/table"
grep -hE '^(FAILED|ERROR|SKIPPED) ' "$work"/*.log || true
if $kept; then printf '\nThe machine stays in %s\n' "$machine"; fi
exit $worst
