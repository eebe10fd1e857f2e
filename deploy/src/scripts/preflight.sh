# Parameters: registry ports web_ports comment; after project_files.sh, front_door.sh, as_left.sh, prove.sh. Changes nothing but makes
# $root; the worker judges what is told. Where all is as it was left, that is told instead.
if prove; then exit 0; fi
# Nobody waits for this script.
exec 9>&-

check_owner

look_at_ufw() {
    if ! command -v ufw >/dev/null 2>&1; then
        tell ufw absent
        return
    fi
    status=$(ufw status || :)
    case $status in *'Status: '*) status=${status#*Status: } ;; *) status= ;; esac
    tell ufw "${status%%"$line_end"*}"
}
line_end='
'

data=/
docker_setup='{{.ServerVersion}} {{.DockerRootDir}} {{.LoggingDriver}} {{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Version}}{{end}}{{end}}'
look_at_docker() {
    client=$(command -v docker) || return 0
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
}

ask_confined() {
    shm=$(mktemp "/dev/shm/slipway.$slug.XXXXXXXX")
    echo 'services: {probe: {image: probe}}' >"$probe"
    COMPOSE_FILE=$probe COMPOSE_ENV_FILES=$shm docker compose config -q >&2 || tell confined "$client"
    rm -f "$shm"
}

probe=$root/.slipway-probe.$$
look_at_disks() {
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
    set --
    for place in "$root" "$data"; do
        if [ -d "$place" ]; then set -- "$@" "$place"; fi
    done
    # What can't be asked mustn't hide the other.
    for place in "$@"; do tell_room "$place" || :; done
}

# Side by side: each of them takes longer than all that follows. They tell a few short lines.
look_at_ufw &
looks=$!
{
    look_at_docker
    look_at_disks
} &
looks="$looks $!"
{ if timeout 10 getent ahosts "${registry%%:*}" >/dev/null; then tell resolves yes; fi; } &
looks="$looks $!"

tell_system
tell clock "$(date +%s)"
if [ -O / ]; then
    tell user root
    tell root yes
else
    tell user "$(id -un)"
    tell sudo "$(sudo -n setsid true 2>&1 | head -n 1)"
fi
if command -v git >/dev/null 2>&1; then tell git "$(git --version)"; fi

# Who holds the ports. Containers first: for one, Docker's proxy listens, and not while it restarts. What the project itself
# publishes while it runs is its own.
own='' door=''
set --
while read -r id whose state name shown; do
    case $id in '' | *[!0-9a-f]*) continue ;; esac
    if [ "$name" = "$front_container" ]; then door="$state $shown"; fi
    shown=${shown%%|*}
    case "$whose $state $shown" in
    # A range of ports is shown as one.
    *[0-9]-[0-9]*'->'*) set -- "$@" "$id" ;;
    'own running '*) own="$own $shown" ;;
    'other running '*)
        for port in $ports $web_ports; do
            case $shown in *":$port->"*) ;; *) continue ;; esac
            set -- "$@" "$id"
            break
        done
        ;;
    *) set -- "$@" "$id" ;;
    esac
done <<END
$(docker ps -a --no-trunc --format "{{.ID}} {{if eq (.Label \"com.docker.compose.project\") \"$slug\"}}own{{else}}other{{end}} {{.State}} {{.Names}} {{.Ports}}|{{.Status}}" 2>/dev/null || :)
END
held=
if [ $# -gt 0 ]; then held=$(docker inspect --format "$bindings" "$@" 2>/dev/null || :); fi

# Docker itself starts the door anew whenever it ends, unless somebody has stopped it by hand.
if [ -d "$front/etc/sites" ] && [ -n "$door" ]; then
    shown=${door#*"("}
    shown=${shown%%")"*}
    case $shown in '' | *[!0-9]*) shown=0 ;; esac
    state=${door%% *}
    case $state in
    running) ;;
    restarting)
        tell door_found "$state ($shown)"
        tell front_door down
        docker logs --tail 5 "$front_container" >&2 || :
        ;;
    *)
        tell door_found "$state ($shown)"
        if docker start "$front_container" >/dev/null; then tell front_door repaired; else tell front_door down; fi
        ;;
    esac
    tell_door
fi

# What is at the door already: the ports of projects behind it, and names, by their sites' files.
sites=$(grep -HsE '^(http://:[0-9]+|[0-9a-z][^/]*) \{$' "$front"/etc/sites/*.caddy || :)
secured=
while IFS=: read -r site line; do
    case $line in '' | 'http://:'*) ;; *) secured=${secured:-$site} ;; esac
done <<END
$sites
END
# site_of PORT: sets $site to the slug of the project whose port that is at the door, if anybody's.
site_of() {
    site=
    case $line_end$sites$line_end in *":http://:$1 {$line_end"*) ;; *) return 0 ;; esac
    site=${sites%%":http://:$1 {"*}
    site=${site##*/} site=${site%.caddy}
}
# Those of domains are the door's where it serves any, and 80 where that is a port of a project behind it.
site_of 80
if [ -n "$secured" ]; then web_ports=; elif [ -n "$site" ]; then web_ports=${web_ports#80}; fi
ports="$ports${web_ports:+ $web_ports}"
tell_holders "$held"
for port in $ports; do
    site_of "$port"
    if [ "$site" = "$slug" ]; then continue; fi
    if [ -n "$site" ]; then
        tell container "$port $front_container running $site"
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
    holder=
    while read -r held_port _ state _; do
        case "$held_port $state" in "$port running" | "$port restarting" | "$port paused") holder=yes ;; esac
    done <<END
$held
END
    case $holder$own in yes* | *":$port->"*) continue ;; esac
    listener=$(ss -Hltnp "sport = :$port" | head -n 1)
    [ -n "$listener" ] || continue
    process=$(printf '%s' "$listener" | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 \2/p')
    tell process "$port ${process:-unknown 0}"
done
for look in $looks; do wait "$look"; done
