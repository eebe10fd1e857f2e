# Parameters: service port inner; after project_files.sh, front_door.sh, containers.sh, sockets.sh. Whether the project
# listens on the server's port, and not only on a loopback.
serving "$port"
if [ "$served_by" = b ]; then port=$slot_b; else port=${slot_a:-$port}; fi
container=$(service_ps -q --filter "label=com.docker.compose.service=$service" --filter "publish=$port/tcp" | head -n 1)
if [ -n "$container" ]; then
    listens_inside "$(docker inspect --format '{{.State.Pid}}' "$container")" "$inner" || exit 0
elif [ -z "$(ss -Hltn "sport = :$port" | head -n 1)" ]; then
    exit 0
fi
tell listening yes
# What on the server itself may keep others from a socket; ufw's rules are ours, and what Docker publishes goes past it.
if [ -n "$container" ] && [ -z "$served_by" ]; then exit 0; fi
if command -v firewall-cmd >/dev/null 2>&1 && firewall-cmd --state >/dev/null 2>&1; then
    tell closed_by firewalld
elif ! ufw status 2>/dev/null | grep -q '^Status: active' && command -v iptables >/dev/null 2>&1; then
    rules=$(iptables -S INPUT 2>/dev/null; ip6tables -S INPUT 2>/dev/null) || :
    if printf '%s\n' "$rules" | grep -qE '^(-P INPUT|-A INPUT( -m comment --comment [^-]*)? -j) (DROP|REJECT)'; then tell closed_by iptables; fi
fi
