# Parameters: registry ports web_ports comment; after project_files.sh, front_door.sh, as_left.sh, prove.sh. Changes nothing but makes
# $root; the worker judges what is told. Where all is as it was left, that is told instead.
if prove; then exit 0; fi
# Nobody waits for this script.
exec 9>&-

check_owner
# Docker itself starts it anew whenever it ends, unless somebody has stopped it by hand.
if [ -d "$front/etc/sites" ] && door=$(docker inspect --format '{{.State.Status}} ({{.State.ExitCode}})' "$front_container" 2>/dev/null); then
    case $door in
    running*) ;;
    restarting*)
        tell door_found "$door"
        tell front_door down
        docker logs --tail 5 "$front_container" >&2 || :
        ;;
    *)
        tell door_found "$door"
        if docker start "$front_container" >/dev/null; then tell front_door repaired; else tell front_door down; fi
        ;;
    esac
    tell_door
fi
tell system "$(uname -s) $(uname -m)"
tell_emulated /proc/sys/fs/binfmt_misc
tell os "$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release 2>/dev/null || :)"
tell clock "$(date +%s)"
tell user "$(id -un)"
if [ "$(id -u)" = 0 ]; then tell root yes; else tell sudo "$(sudo -n setsid true 2>&1 | head -n 1)"; fi
if timeout 10 getent ahosts "${registry%%:*}" >/dev/null; then tell resolves yes; fi
tell memory_kb "$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)"

if command -v git >/dev/null 2>&1; then tell git "$(git --version)"; fi

data=/
docker_setup='{{.ServerVersion}} {{.DockerRootDir}} {{.LoggingDriver}} {{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Version}}{{end}}{{end}}'
if client=$(command -v docker); then
    tell docker_client present
    # One question, since each costs a program.
    setup=$(docker info --format "$docker_setup" || :)
    read -r version place logging compose <<END
$setup
END
    if [ -n "$place" ]; then
        tell docker "$version"
        tell logging "$logging"
        data=$place
        if [ -n "$compose" ]; then
            tell compose "$compose"
        else
            for place in /home/*/.docker/cli-plugins/docker-compose; do
                if [ -x "$place" ]; then tell compose_of_others "$place"; fi
            done
        fi
    else
        case $(docker --version 2>/dev/null) in *[Pp]odman*) tell docker_is podman ;; esac
        for place in /run/user/*/docker.sock; do
            if [ -S "$place" ]; then tell docker_of_others "$place"; fi
        done
    fi
fi

ask_confined() {
    shm=$(mktemp "/dev/shm/slipway.$slug.XXXXXXXX")
    echo 'services: {probe: {image: probe}}' >"$probe"
    COMPOSE_FILE=$probe COMPOSE_ENV_FILES=$shm docker compose config -q >&2 || tell confined "$client"
    rm -f "$shm"
}

probe=$root/.slipway-probe.$$
# In a subshell: a redirection that fails ends the shell that it is in.
if (umask 022 && mkdir -p "$root" && : >"$probe") 2>/dev/null; then
    tell writable yes
    # A program reads what its caller may read. Where another one starts it, as snap does, it may not: it's asked, with a
    # file in each of the two places that matter.
    magic=
    if [ -n "${compose:-}" ]; then
        { IFS= read -r magic <"$client"; } 2>/dev/null || :
        if [ -L "$client" ] && [ "$(readlink -f "$client")" = /usr/bin/snap ]; then magic=snap; fi
    fi
    case $magic in
    '' | ?ELF*) ;;
    *) ask_confined ;;
    esac
    rm -f "$probe"
fi
for place in "$root" "$data"; do
    [ -d "$place" ] || continue
    tell disk_kb "$(df -Pk "$place" | awk 'NR == 2 { print $4 }')"
    # Btrfs for one has none to count, and says 0 of 0.
    tell inodes "$(df -Pi "$place" | awk 'NR == 2 { print $2 ? $4 : "-" }')"
done

if ! command -v ufw >/dev/null 2>&1; then
    tell ufw absent
else
    tell ufw "$(ufw status | sed -n 's/^Status: //p')"
fi

# Who holds the ports. Containers first: for one, Docker's proxy listens, and not while it restarts. What the project itself
# publishes while it runs is its own.
own=
set --
while read -r id whose state shown; do
    case $id in '' | *[!0-9a-f]*) continue ;; esac
    case "$whose $state $shown" in
    # A range of ports is shown as one.
    *[0-9]-[0-9]*'->'*) set -- "$@" "$id" ;;
    'own running '*) own="$own $shown" ;;
    *) set -- "$@" "$id" ;;
    esac
done <<END
$(docker ps -a --no-trunc --format "{{.ID}} {{if eq (.Label \"com.docker.compose.project\") \"$slug\"}}own{{else}}other{{end}} {{.State}} {{.Ports}}" 2>/dev/null || :)
END
held=
if [ $# -gt 0 ]; then held=$(docker inspect --format "$bindings" "$@" 2>/dev/null || :); fi
# Those of domains are the door's already where it serves any, and 80 where that is a port of a project behind it.
secured=$(grep -lsE '^[0-9a-z][^/]* \{$' "$front"/etc/sites/*.caddy | head -n 1)
door_of 80
if [ -n "$secured" ]; then web_ports=; elif [ -n "$door_of" ]; then web_ports=${web_ports#80}; fi
ports="$ports${web_ports:+ $web_ports}"
tell_holders "$held"
for port in $ports; do
    door_of "$port"
    if [ "$door_of" = "$slug" ]; then continue; fi
    if [ -n "$door_of" ]; then
        tell container "$port $front_container running $door_of"
        continue
    fi
    case "$port $secured" in
    # There it only sends people on to HTTPS.
    '80 /'*) continue ;;
    '443 /'*)
        secured=${secured##*/}
        tell container "$port $front_container running ${secured%.caddy}"
        continue
        ;;
    esac
    containers=$(printf '%s\n' "$held" | sed -n "s|^$port /||p")
    case " $(printf '%s ' $containers)$own" in *' running '* | *' restarting '* | *' paused '* | *":$port->"*) continue ;; esac
    listener=$(ss -Hltnp "sport = :$port" | head -n 1)
    [ -n "$listener" ] || continue
    process=$(printf '%s' "$listener" | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 \2/p')
    tell process "$port ${process:-unknown 0}"
done
