# $0 is the bootstrap; with $1 it runs in a mount namespace of its own; the rest is the bootstrap's. A group of its own
# lets the watchdog end everything that the script starts.
apart=${1:+unshare --mount --}
[ $# -eq 0 ] || shift
# Root's own is root's: a program less than to ask who this is.
if [ -O / ] || ! sudo -n true 2>/dev/null; then
    exec $apart setsid -w sh -c "$0" sh "$@"
fi
exec sudo -n -- $apart setsid -w sh -c "$0" sh "$@"
