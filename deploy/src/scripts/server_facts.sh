# Parameters: root. Changes nothing: what the server has, and what of it is in use.
tell system "$(uname -s) $(uname -m)"
tell memory_total_kb "$(sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo)"
tell memory_kb "$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)"
tell cpus "$(getconf _NPROCESSORS_ONLN)"
read -r load _ </proc/loadavg
tell load "$load"
if command -v git >/dev/null 2>&1; then tell git "$(git --version)"; fi

data=$root
if command -v docker >/dev/null 2>&1; then
    tell docker_client present
    setup=$(timeout 10 docker info --format '{{.ServerVersion}} {{.DockerRootDir}} {{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Version}}{{end}}{{end}}' || :)
    read -r version place compose <<END
$setup
END
    if [ -n "$place" ]; then
        tell docker "$version"
        data=$place
        if [ -n "$compose" ]; then tell compose "$compose"; fi
        # Docker counts the layers of every image: on a busy server that takes longer than anybody should wait.
        tell docker_use "$(timeout 5 docker system df --format '{{.Size}}' 2>/dev/null | tr '\n' ' ')"
    fi
fi

for place in "$root" "$data"; do
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    tell disk_total_kb "$(df -Pk "$place" | awk 'NR == 2 { print $2 }')"
    tell disk_kb "$(df -Pk "$place" | awk 'NR == 2 { print $4 }')"
    # Btrfs for one has none to count, and says 0 of 0.
    tell inodes "$(df -Pi "$place" | awk 'NR == 2 { print $2 ? $4 : "-" }')"
done

projects=0
for project in "$root"/*/; do
    if [ -d "$project" ]; then projects=$((projects + 1)); fi
done
tell projects "$projects"

# What listens, and what Docker publishes without a program of its own that would.
tell ports "$(ss -Hltn | awk '{ n = split($4, part, ":"); print part[n] }' | sort -un | tr '\n' ' ')"
tell ports "$(docker ps --format '{{.Ports}}' 2>/dev/null | grep -oE ':[0-9]+(-[0-9]+)?->' | tr -d ':>' | sort -u | tr '\n' ' ' || :)"
