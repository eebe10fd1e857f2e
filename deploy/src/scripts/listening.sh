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
