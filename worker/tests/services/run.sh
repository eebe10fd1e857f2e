#!/bin/sh
# Keeps one server running for a test binary: run.sh DIR. DIR/server is what to run. Words on stdin are orders, each
# answered by a line; the end of stdin, which is the end of the test binary however it ends, kills the server and removes
# DIR.
dir=$1
run() {
    setsid sh "$dir/server" </dev/null >>"$dir/out" 2>&1 &
    server=$!
}
below() { cat "/proc/$1/task/$1/children" 2>/dev/null; }
# Parents first: who is stopped starts nobody.
freeze() {
    kill -STOP "$1"
    for child in $(below "$1"); do freeze "$child"; done
}
# Parents last: the list of a running process's children may lack one while another ends.
thaw() {
    for child in $(below "$1"); do thaw "$child"; done
    kill -CONT "$1"
}
run
while read -r word signal; do
    case $word in
    stop) kill -9 -"$server"; wait "$server" ;;
    end) kill -"$signal" "$server"; wait "$server"; kill -9 -"$server" ;;
    start) run ;;
    freeze) freeze "$server" ;;
    thaw) thaw "$server" ;;
    esac 2>/dev/null
    echo 'done'
done
thaw "$server" 2>/dev/null
kill -9 -"$server"
wait "$server"
rm -rf "$dir"
