# Parameters: bots? rehearsed?; after project_files.sh, compose_call.sh, containers.sh, git.sh, service_report.sh,
# stability_gate.sh, sockets.sh, rehearse.sh. Two bots must not run with one token, so that a new one can't be tried
# beside the old one: it takes its place before anything that serves the web is touched. One that fails costs the web
# services nothing.

# serves_web: whether a web service runs.
serves_web() {
    for service in $rehearsed; do
        [ -z "$(service_ps -q --filter "label=com.docker.compose.service=$service" | head -n 1)" ] || return 0
    done
    return 1
}

# containers_of SERVICES: the ids of their containers, stopped ones included.
containers_of() {
    for service in "$@"; do service_ps -aq --filter "label=com.docker.compose.service=$service"; done
}

# replace_bots: replaces all modules that serve no web and aren't kept, and waits until they're stable; tells the verdict
# where they aren't. What they may need and isn't there yet, such as a new cache, is started before them. Sets $placed to
# those that nothing is left to do for.
replace_bots() {
    placed=
    if [ -z "${bots:-}" ] || ! protects || ! serves_web; then return 0; fi
    new=
    for service in $bots; do
        if keeps "$service"; then placed="$placed $service"; else new="$new $service"; fi
    done
    [ -n "$new" ] || return 0
    missing=
    for service in $(project_compose config --services); do
        case " $rehearsed $bots " in *" $service "*) continue ;; esac
        if [ -z "$(containers_of "$service")" ]; then missing="$missing $service"; fi
    done
    up=done
    answer=ok
    if put_in_place >&2; then begin $missing && begin $new || :; else up=failed; fi
    if [ "$answer" = ok ] && [ "$up" = "done" ]; then return 0; fi
    tell change changed
    tell_all
    if [ "$up" = failed ]; then tell phase failed; else tell phase bots; fi
    tell verdict "${answer% *}"
    case $answer in *' '*) docker logs --tail 30 "${answer##* }" >&2 || : ;; esac
    return 1
}

# put_in_place: containers of $new in the place of the old ones, and of $missing. They are the very ones that compose
# asks for when it starts all: to start a service alone, without what it depends on, compose makes another one of it.
# Only compose hands a volume without a name on to the next container, and so it replaces what has such a one, twice.
put_in_place() {
    for service in $new; do
        old=$(containers_of "$service")
        if [ -n "$old" ] && has_unnamed_volume $old; then
            project_compose up -d --no-build --no-deps "$service" || return 1
            continue
        fi
        placed="$placed $service"
        if [ -n "$old" ]; then docker stop $old >/dev/null && docker rm -f $old >/dev/null || return 1; fi
    done
    project_compose create --no-build --no-recreate $new $missing
}

# has_unnamed_volume IDS: whether one of the containers has a volume that an image or a service declares without a name.
has_unnamed_volume() {
    docker inspect --format '{{range .Mounts}}{{if eq .Type "volume"}}{{println .Name}}{{end}}{{end}}' "$@" |
        grep -qxE '[0-9a-f]{64}'
}

# begin SERVICES: starts their containers, and waits until they're stable.
begin() {
    ids=$(containers_of "$@")
    [ -n "$ids" ] || return 0
    usual=$patience
    # Nothing more will start: what is there shows soon why.
    if ! docker start $ids >/dev/null; then up=failed patience=10; fi
    settle $ids
    patience=$usual
    [ "$answer" = ok ] && [ "$up" = "done" ]
}

# start_others: starts all services but those that are in their place. Compose stops for a while what depends on a service
# that it replaces: a new bot would be started twice.
start_others() {
    others=
    if [ -n "$placed" ]; then
        for service in $(project_compose config --services); do
            case " $placed " in *" $service "*) ;; *) others="$others $service" ;; esac
        done
    fi
    project_compose up -d --no-build --remove-orphans $others
}
