set -eu
umask 077
export LC_ALL=C
# Where ufw and its like are: a login may leave it out, and what isn't found counts as absent.
export PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin"
# What is written in Python, as ufw, heeds it all the same.
unset LANGUAGE
read_data() {
    # Whose data are cut, its worker is gone.
    while IFS= read -r line || exit 1; [ -n "$line" ]; do
        eval "${line%%=*}=\${line#*=}"
    done
}
if [ $# -gt 0 ]; then
    mark=$1 script=$2
    read_data <<END
$3

END
    shift 3
else
    IFS=' ' read -r mark size
    script=$(head -c "$size")
    read_data
fi
unset line
exec 3<&0 </dev/null

# tell KEY VALUE: a line for the worker, on a line of its own whatever was printed before.
tell() { printf '\n%s %s %s\n' "$mark" "$1" "$2"; }
# Without it, something else was run in this one's place.
tell began yes
# tell_file KEY FILE: its content, in base64.
tell_file() { tell "$1" "$(base64 -w 0 <"$2")"; }
# die CODE MESSAGE: a failure that the script itself has understood.
die() {
    tell failed "$1 $2"
    exit 3
}

# The worker holds stdin open. When it closes it, or is gone, the whole process group ends. A script that reads its stdin
# itself comes to its end by that.
watchdog=
if [ -z "${streams:-}" ]; then
    (
        trap '' TERM HUP INT
        while read -r _; do :; done
        kill -s TERM -- -$$
        sleep 5
        kill -s KILL -- -$$
    ) <&3 >/dev/null 2>&1 &
    watchdog=$!
    exec 3<&-
fi
cleanup() { :; }
# Told last, it shows that the script has come to an end of its own.
trap 'cleanup; [ -z "$watchdog" ] || kill -KILL "$watchdog" 2>/dev/null || :; tell ended yes' EXIT
# The watchdog stays: it kills what doesn't heed the first signal.
trap 'trap - EXIT; cleanup; exit 143' TERM HUP INT
eval "$script"
