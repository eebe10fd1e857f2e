# $0 is the bootstrap. A group of its own lets the watchdog end everything that the script starts.
if [ "$(id -u)" = 0 ] || ! sudo -n true 2>/dev/null; then
    exec setsid -w sh -c "$0"
fi
exec sudo -n -- setsid -w sh -c "$0"
