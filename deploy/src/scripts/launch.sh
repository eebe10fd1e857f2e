# $1 is the bootstrap; where $2 says so, it runs in a mount namespace of its own; the rest is the bootstrap's. This shell leads
# a process group, and so does what takes its place: the watchdog ends everything that the script starts.
bootstrap=$1 apart=${2:+unshare --mount --}
shift 2
# Root's own is root's: a program less than to ask who this is. Where sudo allows something else, it's of no use.
if [ ! -O / ] && sudo -n setsid true 2>/dev/null; then
    exec sudo -n -- $apart setsid -w sh -c "$bootstrap" sh "$@"
fi
[ -z "$apart" ] || exec $apart sh -c "$bootstrap" sh "$@"
eval "$bootstrap"
