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

# replace_bots: replaces all modules that serve no web and aren't kept, and waits until they're stable; tells the verdict
# where they aren't. What they may need and isn't there yet, such as a new cache, is started with them.
replace_bots() {
    if [ -z "${bots:-}" ] || ! protects || ! serves_web; then return 0; fi
    new=
    for service in $bots; do keeps "$service" || new="$new $service"; done
    [ -n "$new" ] || return 0
    for service in $(project_compose config --services); do
        case " $rehearsed $bots " in *" $service "*) continue ;; esac
        if [ -z "$(service_ps -aq --filter "label=com.docker.compose.service=$service")" ]; then new="$new $service"; fi
    done
    up=done
    # To compose a service without dependencies is another one: with all others it starts the bots once more.
    project_compose up -d --no-build --no-deps $new >&2 || up=failed
    ids=$(for service in $bots; do service_ps -aq --filter "label=com.docker.compose.service=$service"; done)
    answer=ok
    # Nothing more will start: what is there shows soon why.
    if [ "$up" = failed ]; then patience=10; fi
    if [ -n "$ids" ]; then settle $ids; fi
    if [ "$answer" = ok ] && [ "$up" = "done" ]; then return 0; fi
    tell change changed
    tell_all
    if [ "$up" = failed ]; then tell phase failed; else tell phase bots; fi
    tell verdict "${answer% *}"
    case $answer in *' '*) docker logs --tail 30 "${answer##* }" >&2 || : ;; esac
    return 1
}
