# Parameters: patience? limit?; after containers.sh, service_report.sh. Samples the project's containers until it shows
# whether they run and stay.
begun=$(date +%s)

# in_time SECONDS: the moment that far from now, unless the whole script must come to its end before, $limit seconds
# after its start: a verdict is worth more than being cut off without one.
in_time() {
    moment=$(($(date +%s) + $1))
    if [ -n "${limit:-}" ] && [ "$moment" -gt $((begun + limit)) ]; then moment=$((begun + limit)); fi
    printf '%s\n' "$moment"
}

# verdict: ok, or wait, crash-loop or unhealthy with the service and its container. Seconds a service must have run:
# 5, or 15 once it has restarted.
verdict() {
    result=ok
    while read -r service state health restarts code started _ policy id; do
        first=$(printf '%s\n' "$baseline" | sed -n "s/^$id //p")
        if [ "$state" = exited ] && [ "$code" = 0 ] && [ "$policy" != unless-stopped ]; then continue; fi
        if [ "$state" = restarting ] || [ "$restarts" -gt $((${first:-0} + 1)) ] || [ "$state" = exited ] || [ "$state" = dead ]; then
            result="crash-loop $service $id"
            break
        fi
        if [ "$health" = unhealthy ]; then
            result="unhealthy $service $id"
            break
        fi
        needed=5
        if [ "$restarts" -gt 0 ]; then needed=15; fi
        if [ "$state" != running ] || [ "$health" = starting ] || [ $(($(date +%s) - $(date -d "$started" +%s))) -lt "$needed" ]; then
            result="wait $service $id"
        fi
    done
    printf '%s\n' "$result"
}

# start_period IDS: the longest one that these containers' health checks declare, in seconds; ten minutes at most.
start_period() {
    period='{{if .Config.Healthcheck}}{{printf "%d" .Config.Healthcheck.StartPeriod}}{{else}}0{{end}}'
    longest=$(docker inspect --format "$period" "$@" | sort -n | tail -n 1 || :)
    longest=$((${longest:-0} / 1000000000))
    if [ "$longest" -gt 600 ]; then longest=600; fi
    printf '%s\n' "$longest"
}

# settle IDS: waits until these containers are stable, at most $patience seconds; sets $answer to the verdict and
# $sample to how they were last.
settle() {
    baseline=$(docker inspect --format '{{.Id}} {{.RestartCount}}' "$@" || :)
    # The project's own word on a slow start counts on top; once `up` has failed there's nothing to wait for.
    slow=0
    if [ "${up:-done}" = "done" ]; then slow=$(start_period "$@"); fi
    deadline=$(in_time $((patience + slow)))
    bad=0
    while :; do
        sample=$(docker inspect --format "$format" "$@" || :)
        answer=$(printf '%s\n' "$sample" | verdict)
        case $answer in
        ok) break ;;
        wait*) bad=0 ;;
        # Once may be a passing state: a restart that succeeds, a check that was too early.
        *) bad=$((bad + 1)) ;;
        esac
        if [ "$bad" -ge 5 ] || [ "$(date +%s)" -ge "$deadline" ]; then break; fi
        sleep 1
    done
}

# gate: settles all of the project's containers and tells the services; a bare `wait` where there is none.
gate() {
    ids=$(containers)
    # `up` has failed before it made any: its own words say why.
    if [ -z "$ids" ]; then
        answer='wait'
        return 0
    fi
    settle $ids
    printf '%s\n' "$sample" | tell_services
}
