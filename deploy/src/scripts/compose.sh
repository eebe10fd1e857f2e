# Parameters: registry policy patience; after project.sh. Pulls, starts, and waits until everything is stable.
enter
rm -rf /dev/shm/slipway."$slug".*
cleanup() { registry_logout; }
registry_login

containers() {
    docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$slug" --filter label=com.docker.compose.oneoff=False
}
before=$(containers | sort)

if ! project_compose pull -q --policy "$policy" >&2; then
    tell phase pull
    exit 4
fi
registry_logout
if project_compose up -d --no-build --remove-orphans >&2; then
    up=done
else
    # Nothing more will start: what is there shows soon why.
    up=failed
    patience=10
fi

ids=$(containers)
if [ "$before" = "$(printf '%s\n' "$ids" | sort)" ]; then tell change unchanged; else tell change changed; fi
format='{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{if index .State "Health"}}{{.State.Health.Status}}{{else}}-{{end}} {{.RestartCount}} {{.State.ExitCode}} {{.State.StartedAt}} {{.Config.Image}} {{.HostConfig.RestartPolicy.Name}} {{.Id}}'

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

baseline=$(docker inspect --format '{{.Id}} {{.RestartCount}}' $ids || :)
deadline=$(($(date +%s) + patience))
bad=0
while :; do
    sample=$(docker inspect --format "$format" $ids || :)
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

printf '%s\n' "$sample" | while read -r service state health restarts code _ image _; do
    [ -z "$service" ] || tell service "$service $state $health $restarts $code $image"
done
if [ "$answer" = ok ] && [ "$up" = "done" ]; then exit 0; fi
tell phase "$up"
tell verdict "${answer% *}"
id=${answer##* }
if [ "$answer" != ok ]; then docker logs --tail 30 "$id" >&2 || :; fi
exit 4
