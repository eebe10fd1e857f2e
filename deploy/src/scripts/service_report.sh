# After containers.sh. Tells the worker how the project's containers are.

# Of a health check: its start period, its interval in billionths of a second, its tries.
check_format='{{with index .Config "Healthcheck"}}{{or (index . "StartPeriod") 0}}/{{or (index . "Interval") 0}}/{{or (index . "Retries") 0}}{{else}}0/0/0{{end}}'
format="\
{{index .Config.Labels \"com.docker.compose.service\"}} \
{{.State.Status}} \
{{if index .State \"Health\"}}{{.State.Health.Status}}{{else}}-{{end}} \
{{.RestartCount}} {{.State.ExitCode}} {{.State.StartedAt}} \
{{.Config.Image}} {{.HostConfig.RestartPolicy.Name}} {{.Id}} \
$check_format\
{{range \$port, \$bindings := .NetworkSettings.Ports}}{{range \$bindings}} {{\$port}},{{.HostIp}},{{.HostPort}}{{end}}{{end}}"

# tell_services LINES: tells the worker of each container, from lines in $format.
tell_services() {
    while read -r service state health restarts exit_code _ image _; do
        [ -z "$service" ] || tell service "$service $state $health $restarts $exit_code $image"
    done <<END
$1
END
}

# tell_published LINES: tells the worker which ports Docker publishes, from such lines.
tell_published() {
    while read -r service _ _ _ _ _ _ _ _ _ bindings; do
        for binding in $bindings; do
            port=${binding%%,*}
            binding=${binding#*,}
            tell published "$service $port ${binding%,*} ${binding##*,}"
        done
    done <<END
$1
END
}

# tell_all: tells the worker of the project's containers as they are.
tell_all() {
    ids=$(containers)
    if [ -n "$ids" ]; then tell_services "$(docker inspect --format "$format" $ids)"; fi
}
