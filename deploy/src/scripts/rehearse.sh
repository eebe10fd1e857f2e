# Parameters: rehearsed? patience?; after project_files.sh, compose_call.sh, containers.sh, git.sh, service_report.sh,
# stability_gate.sh. Starts the new release of each web service beside the one that serves, without its port and unknown
# to the others, before anything that runs is touched. What exits or turns unhealthy there never takes the place of what
# works; whether it listens shows only in that place. Nothing else is rehearsed: it may be a bot, and two must not run
# with one token. Where a service bears no second one of itself, the variable SLIPWAY_REHEARSAL="off" in .env leaves it
# out.

trial_format="{{.State.Status}} {{.State.ExitCode}} \
{{if index .State \"Health\"}}{{.State.Health.Status}}{{else}}-{{end}}"

# rehearsal SERVICE: sets $answer to a verdict, as gate does. Five seconds, or until its health check has spoken.
rehearsal() {
    trial=$slug-rehearsal-$1
    docker rm -fv "$trial" >/dev/null 2>&1 || :
    if ! project_compose run -d --no-deps --name "$trial" "$1" >/dev/null; then
        answer="unstartable $1 $trial"
        return
    fi
    ends=$(in_time "$patience")
    calm=$(($(date +%s) + 5))
    while :; do
        state=$(docker inspect --format "$trial_format" "$trial")
        case $state in
        'exited 0 '*) answer=ok ;;
        exited* | dead*) answer="crash-loop $1 $trial" ;;
        *' unhealthy') answer="unhealthy $1 $trial" ;;
        *' healthy') answer=ok ;;
        *' starting') answer= ;;
        *) if [ "$(date +%s)" -ge "$calm" ]; then answer=ok; else answer=; fi ;;
        esac
        if [ -z "$answer" ] && [ "$(date +%s)" -ge "$ends" ]; then answer="wait $1 $trial"; fi
        [ -z "$answer" ] || break
        sleep 0.5
    done
}

# rehearse: rehearses each web service that runs, where files, variables or its image aren't those that serve; stops at
# the first that fails, with its log, and tells the verdict.
rehearse() {
    if [ ! -f .slipway/served/commit ] || grep -q '^SLIPWAY_REHEARSAL="off"$' .env; then return 0; fi
    same=no
    if cmp -s .env .slipway/served/env && cmp -s "$override" .slipway/served/override &&
        [ "$(repo_git rev-parse HEAD)" = "$(cat .slipway/served/commit)" ]; then
        same=yes
    fi
    for service in $rehearsed; do
        serving=$(service_ps -q --filter "label=com.docker.compose.service=$service" | head -n 1)
        [ -n "$serving" ] || continue
        image=$(docker inspect --format '{{.Config.Image}}' "$serving")
        image=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || :)
        if [ "$same" = yes ] && [ "$(docker inspect --format '{{.Image}}' "$serving")" = "$image" ]; then continue; fi
        tell rehearsed "$service"
        rehearsal "$service"
        if [ "$answer" != ok ]; then
            tell phase rehearsal
            tell verdict "${answer% *}"
            docker logs --tail 30 "$trial" >&2 || :
        fi
        docker rm -fv "$trial" >/dev/null 2>&1 || :
        trial=
        [ "$answer" = ok ] || return 1
    done
}
