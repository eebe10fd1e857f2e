# Parameters: bots? rehearsed?; after project_files.sh, compose_call.sh, containers.sh, git.sh, service_report.sh,
# stability_gate.sh, sockets.sh, rehearse.sh. Two bots must not run with one token, so that a new one can't be tried
# beside the old one: it takes its place before anything that serves the web is touched. One that fails costs the web
# services nothing.

# serves_web: whether a web service runs.
serves_web() {
    for service in $rehearsed; do
        running_of "$service"
        [ -z "$ids" ] || return 0
    done
    return 1
}

# all_services: the names of all services of the model. Compose prints it with an indentation of two.
all_services() {
    resolve || return 1
    names=$(printf '%s\n' "$model" | sed -n '/^  "services": {$/,/^  }/s/^    "\([A-Za-z0-9._-]*\)": {$/\1/p')
    if [ -n "$names" ]; then printf '%s\n' "$names"; else project_compose config --services; fi
}

# replace_bots: after see. Replaces all modules that serve no web and aren't kept, and waits until they're stable; tells the verdict
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
    for service in $(all_services); do
        case " $rehearsed $bots " in *" $service "*) continue ;; esac
        seen_of "$service"
        if [ -z "$ids" ]; then missing="$missing $service"; fi
    done
    up=done
    answer=ok
    if put_in_place >&2 && see; then begin $missing && begin $new || :; else up=failed; fi
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
        seen_of "$service"
        if [ -n "$ids" ] && has_unnamed_volume "$service"; then
            project_compose up -d --no-build --no-deps "$service" || return 1
            continue
        fi
        placed="$placed $service"
        if [ -n "$ids" ]; then docker stop $ids >/dev/null && docker rm -f $ids >/dev/null || return 1; fi
    done
    project_compose create --no-build --no-recreate $new $missing
}

# has_unnamed_volume SERVICE: whether one of its containers has a volume that an image or a service declares without a
# name.
has_unnamed_volume() {
    printf '%s\n' "$present" | grep -qE "^[0-9a-f]+ $1 .*[ ,][0-9a-f]{64}(,|\$)"
}

# begin [SERVICES]: starts their containers, and waits until it shows that they run: for two seconds, or fifteen where one
# has restarted. What's left of the five is counted with the web services' own, so that nobody waits twice.
begin() {
    [ $# -gt 0 ] || return 0
    seen_of "$@"
    [ -n "$ids" ] || return 0
    usual=$patience
    # Nothing more will start: what is there shows soon why.
    if ! docker start $ids >/dev/null; then up=failed patience=10; fi
    trial_time=200
    settle $ids
    trial_time=
    patience=$usual
    [ "$answer" = ok ] && [ "$up" = "done" ]
}

# start_others: starts all services but those that are in their place. Compose stops for a while what depends on a service
# that it replaces: a new bot would be started twice.
start_others() {
    others=
    if [ -n "$placed" ]; then
        for service in $(all_services); do
            case " $placed " in *" $service "*) ;; *) others="$others $service" ;; esac
        done
    fi
    project_compose up -d --no-build --remove-orphans $others
}
