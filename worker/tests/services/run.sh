#!/bin/sh
# Keeps one server running for a test binary: run.sh DIR. DIR/server is what to run. Words on stdin stop and start it;
# the end of stdin, which is the end of the test binary however it ends, kills it and removes DIR.
dir=$1
run() {
    setsid sh "$dir/server" </dev/null >>"$dir/out" 2>&1 &
    server=$!
}
run
while read -r word; do
    case $word in
    stop) kill -9 -"$server"; wait "$server" ;;
    start) run ;;
    esac
done
kill -9 -"$server"
wait "$server"
rm -rf "$dir"
