# Parameters: slug ports published_known?; after project_files.sh, front_door.sh, containers.sh, lock.sh, ufw_rules.sh,
# ufw_routes.sh. Nobody else's rules are touched, nor made ours. Rules are kept right in an inactive ufw too: they count
# once somebody switches it on. What Docker publishes is told, since it bypasses most ufws. An undeployment may make the
# project's directory for the lock's sake.
if command -v enter_ours >/dev/null; then enter_ours; else enter; fi
look_at_published() {
    running=$(project_ps -q)
    published="\
{{\$service := index .Config.Labels \"com.docker.compose.service\"}}\
{{range \$port, \$bindings := .NetworkSettings.Ports}}{{range \$bindings}}\
{{\$service}} {{\$port}} {{.HostIp}} {{.HostPort}}{{\"\\n\"}}\
{{end}}{{end}}"
    [ -z "$running" ] || docker inspect --format "$published" $running | while read -r binding; do
        [ -z "$binding" ] || tell published "$binding"
    done
}
if [ "${published_known:-0}" = 0 ]; then
    look_at_published
    read_doors
    tell_doors
fi
if ! command -v ufw >/dev/null 2>&1; then
    tell ufw absent
    exit 0
fi
lock_ufw
mark firewall
# Not in a pipe: a ufw that fails must fail this.
status=$(ufw status)
tell ufw "$(printf '%s\n' "$status" | sed -n 's/^Status: //p')"
set_rules "$ports"
set_routes "$ports"
read_doors
look_at_domains
set_door_rules
