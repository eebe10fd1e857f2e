set -eu
umask 077
export LC_ALL=C
IFS=' ' read -r mark size
script=$(head -c "$size")
while IFS= read -r line && [ -n "$line" ]; do
    eval "${line%%=*}=\${line#*=}"
done
unset line
exec 3<&0 </dev/null

# tell KEY VALUE: a line for the worker.
tell() { printf '%s %s %s\n' "$mark" "$1" "$2"; }
# tell_file KEY FILE: its content, in base64.
tell_file() { tell "$1" "$(base64 -w 0 <"$2")"; }
# die CODE MESSAGE: a failure that the script itself has understood.
die() {
    tell failed "$1 $2"
    exit 3
}

# The worker holds stdin open. When it closes it, or is gone, the whole process group ends.
(
    trap '' TERM HUP INT
    while read -r _; do :; done
    kill -TERM -- -$$
    sleep 5
    kill -KILL -- -$$
) <&3 >/dev/null 2>&1 &
watchdog=$!
exec 3<&-
cleanup() { :; }
trap 'cleanup; kill -KILL "$watchdog" 2>/dev/null || :' EXIT
trap 'exit 143' TERM HUP INT
eval "$script"
