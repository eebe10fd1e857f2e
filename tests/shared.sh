# What tests/run and tests/soak begin with, sourced by them: the folder, the environment, --help, how steps are told,
# and the tools that cargo installs.
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." || exit
export SLIPWAY_CACHE=${SLIPWAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/slipway}
export PATH=$SLIPWAY_CACHE/tools/bin:$PATH
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
# What went wrong is in the errors' words; thirty lines of frames below each would only hide them.
export RUST_LIB_BACKTRACE=${RUST_LIB_BACKTRACE:-0} RUST_BACKTRACE=${RUST_BACKTRACE:-0}

# Worlds, servers' disks and databases lie in memory where there is plenty of it: they are made and removed all the time,
# and nothing of them outlives a run.
room() { [ "$(awk '$1 == "MemAvailable:" { print int($2 / 1048576) }' /proc/meminfo)" -ge "$1" ] &&
  [ "$(df --output=avail -B 1G /dev/shm | tail -n 1)" -ge "$1" ]; }
if [ -z "${TMPDIR:-}" ] && room 12; then export TMPDIR=/dev/shm; fi

# The comment at the script's head is its help.
case ${1:-} in
  -h | --help)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac

begun=$SECONDS
step() { printf '\n== %s (at %d s)\n' "$*" $((SECONDS - begun)) >&2; }

# tool NAME VERSION: one that the machine lacks, in the version that was tried, below the cache. Not optimised: building
# it well would take longer than it ever runs.
tool() {
  command -v "$1" >/dev/null && return
  step "installing $1 $2"
  cargo install --quiet --locked --debug --root "$SLIPWAY_CACHE/tools" --version "$2" "$1"
}
nextest() { tool cargo-nextest 0.9.143; }
