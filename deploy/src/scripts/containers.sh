# Parameters: slug; after project_files.sh. Which containers belong to the project.

# project_ps OPTIONS: docker's list of all containers of the project; service_ps: without those that are only tried.
project_ps() { docker ps --no-trunc --filter "label=com.docker.compose.project=$slug" "$@"; }
service_ps() { project_ps --filter label=com.docker.compose.oneoff=False "$@"; }

# running: the ids of the project's containers that run.
running() { started_ps | sort; }

# containers: the ids of all of them, stopped ones included.
containers() { started_ps -a; }
started_ps() {
    alone=$(left_alone)
    if [ -z "$alone" ]; then
        service_ps -q "$@"
        return
    fi
    service_ps --format '{{.ID}} {{.Label "com.docker.compose.service"}}' "$@" | while read -r its_id its_service; do
        case " $alone " in *" $its_service "*) ;; *) printf '%s\n' "$its_id" ;; esac
    done
}

# tell_origins LINES: tells of each container, stopped ones included, what Slipway has written upon it, and of their images
# what these say of themselves: CI's job changes the second alone. In JSON, since an image may say anything. The lines are
# in $origin_format.
origin_format="\
[{{json (index .Config.Labels \"com.docker.compose.service\")}},{{.State.Running}},{{json .Image}},{{json .Config.Image}},\
{{json (index .Config.Labels \"slipway.commit\")}},\
[{{range \$_, \$on := .HostConfig.PortBindings}}{{range \$on}}{{json .HostPort}},{{end}}{{end}}\"\"]]{{\"\\n\"}}\
image {{.Image}}"
image_origin="\
[{{json .Id}},{{json (index .Config.Labels \"org.opencontainers.image.revision\")}},\
{{json (index .Config.Labels \"org.opencontainers.image.source\")}}]"
tell_origins() {
    origins=
    while IFS= read -r line; do
        case $line in
        '['*)
            as_published
            tell container_origin "$line"
            ;;
        'image '*) case " $origins " in *" ${line#image } "*) ;; *) origins="$origins ${line#image }" ;; esac ;;
        esac
    done <<END
$1
END
    [ -n "$origins" ] || return 0
    docker image inspect --format "$image_origin" $origins 2>/dev/null |
        while IFS= read -r line; do [ -z "$line" ] || tell image_origin "$line"; done
}

# any_running: the project's containers that run or would run again, one-offs included.
any_running() { project_ps -q; }

# see: looks at all of the project's containers at once, for what goes through them until the next look. $present has a line
# for each, with its mounts at the end.
see() {
    present=$(project_ps -a --format "$present_format")
    alone=$(left_alone)
}
present_format='{{.ID}} {{or (.Label "com.docker.compose.service") "-"}} {{or (.Label "com.docker.compose.oneoff") "-"}} {{.State}} {{.Names}} {{.Mounts}}'

# seen_of SERVICES: sets $ids to the containers that were seen of them, or of all services but those that are left alone;
# running_of: to those that run.
seen_of() { find_seen '*' "$*"; }
running_of() { find_seen running "$*"; }
find_seen() {
    ids=
    while read -r its_id its_service once its_state _; do
        if [ "$once" != False ]; then continue; fi
        case "$2  ${alone:-} " in " "*" $its_service "*) continue ;; esac
        case "$1 $its_state" in '* '* | *' running' | *' restarting' | *' paused') ;; *) continue ;; esac
        case " ${2:-"$its_service"} " in *" $its_service "*) ids="$ids$its_id " ;; esac
    done <<END
$present
END
}

# sorted IDS: a line each.
sorted() { printf '%s\n' "$@" | sort; }

# remove_rehearsals: after see. Removes the containers of a rehearsal whose script was killed, or whose server lost its
# power.
remove_rehearsals() {
    while read -r its_id _ once _ name _; do
        case "$once $name" in "True $slug"[-_]rehearsal[-_]*) ;; *) continue ;; esac
        # Whoever waited for it has died. A migration that is killed halfway may leave anything: it ends by itself, if it does.
        case $name in *_rehearsal_once_*) timeout $((${limit:-120} / 2)) docker wait "$its_id" >/dev/null 2>&1 || : ;; esac
        docker rm -fv "$its_id" >/dev/null
    done <<END
$present
END
}

# end_replacements: after see. A container that was made to replace another one when compose, or the daemon under it, died,
# takes the other's place, or else it's in the way. Its volumes may be the other's.
end_replacements() {
    digits='[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]'
    while read -r _ _ _ its_state name _; do
        case "$its_state $name" in
        "created "$digits${digits}_*) docker rename "$name" "${name#*_}" 2>/dev/null || docker rm -f "$name" >/dev/null ;;
        esac
    done <<END
$present
END
}
