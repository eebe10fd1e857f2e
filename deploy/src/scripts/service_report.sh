# After containers.sh. Tells the worker how the project's containers are.

format="\
{{index .Config.Labels \"com.docker.compose.service\"}} \
{{.State.Status}} \
{{if index .State \"Health\"}}{{.State.Health.Status}}{{else}}-{{end}} \
{{.RestartCount}} {{.State.ExitCode}} {{.State.StartedAt}} \
{{.Config.Image}} {{.HostConfig.RestartPolicy.Name}} {{.Id}}"

# tell_services: tells the worker of each container, from lines in $format.
tell_services() {
    while read -r service state health restarts code _ image _; do
        [ -z "$service" ] || tell service "$service $state $health $restarts $code $image"
    done
}

# tell_all: tells the worker of the project's containers as they are.
tell_all() {
    ids=$(containers)
    if [ -n "$ids" ]; then docker inspect --format "$format" $ids | tell_services; fi
}
