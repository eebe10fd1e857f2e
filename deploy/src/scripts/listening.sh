# Parameters: service port inner; after containers.sh. Whether the project listens on the server's port, and not only on
# a loopback. For a container Docker holds the port, whatever becomes of the program: what counts is whether that
# listens inside.
container=$(service_ps -q --filter "label=com.docker.compose.service=$service" --filter "publish=$port/tcp" | head -n 1)
if [ -n "$container" ]; then
    pid=$(docker inspect --format '{{.State.Pid}}' "$container")
    # Local address, remote address, state; 0A listens. The addresses are in the machine's own order of bytes.
    local='(0100007F|00000000000000000000000001000000|0000000000000000FFFF00000100007F)'
    cat "/proc/$pid/net/tcp" "/proc/$pid/net/tcp6" 2>/dev/null | sed -E 's/^ *[0-9]+: //' |
        grep -E "^[0-9A-F]+:$(printf '%04X' "$inner") [0-9A-F]+:0000 0A " | grep -vqE "^$local:" || exit 0
elif [ -z "$(ss -Hltn "sport = :$port" | head -n 1)" ]; then
    exit 0
fi
tell listening yes
