# $0 is the bootstrap; with $1 it runs in a mount namespace of its own. A group of its own lets the watchdog end
# everything that the script starts.
apart=${1:+unshare --mount --}
# Root's own is root's: a program less than to ask who this is.
if [ -O / ] || ! sudo -n true 2>/dev/null; then
    exec $apart setsid -w sh -c "$0"
fi
exec sudo -n -- $apart setsid -w sh -c "$0"
