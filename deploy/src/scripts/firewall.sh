# Parameters: slug ports published_known?; after project_files.sh, containers.sh, lock.sh, ufw_rules.sh. Nobody else's rules
# are touched, nor made ours. Rules are kept right in an inactive ufw too: they count once somebody switches it on. What
# Docker publishes is told, since it bypasses ufw. An undeployment may make the project's directory for the lock's sake.
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
if [ "${published_known:-0}" = 0 ]; then look_at_published; fi
if ! command -v ufw >/dev/null 2>&1; then
    tell ufw absent
    exit 0
fi
lock_ufw
# Not in a pipe: a ufw that fails must fail this.
status=$(ufw status)
tell ufw "$(printf '%s\n' "$status" | sed -n 's/^Status: //p')"
added=$(ufw show added)
have=$(our_rules "$added")
for port in $ports; do
    case "
$have
" in
    *"
$port
"*) continue ;;
    esac
    if rule_of_others "$added" "$port"; then
        tell others "$port"
        continue
    fi
    allow_port "$port"
    tell added "$port"
done
for port in $have; do
    case " $ports " in *" $port "*) continue ;; esac
    close_port "$port"
    tell removed "$port"
done
