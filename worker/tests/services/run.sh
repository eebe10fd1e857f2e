#!/bin/sh
# Keeps one server running for a test binary: run.sh DIR. DIR/server is what to run. Words on stdin are orders, each
# answered by a line; the end of stdin, which is the end of the test binary however it ends, kills the server and removes
# DIR.
dir=$1
run() {
    setsid sh "$dir/server" </dev/null >>"$dir/out" 2>&1 &
    server=$!
}
# tell SIGNAL PID: the process and all below it, parents first.
tell() {
    kill -"$1" "$2"
    for child in $(cat "/proc/$2/task/$2/children" 2>/dev/null); do tell "$1" "$child"; done
}
run
while read -r word signal; do
    case $word in
    stop) kill -9 -"$server"; wait "$server" ;;
    end) kill -"$signal" "$server"; wait "$server"; kill -9 -"$server" ;;
    start) run ;;
    freeze) tell STOP "$server" ;;
    thaw) tell CONT "$server" ;;
    esac 2>/dev/null
    echo done
done
tell CONT "$server" 2>/dev/null
kill -9 -"$server"
wait "$server"
rm -rf "$dir"
