# Parameters: slug; after project_files.sh, front_door.sh, containers.sh, ufw_rules.sh. Where ufw judges what Docker publishes too, as
# ufw-docker's rules have it: there a port is open only by a rule for what is forwarded, to the container's own port.

# judges_docker: whether this ufw is one of those.
judges_docker() { grep -qsE '^-A DOCKER-USER .*-j ufw-user-forward' /etc/ufw/after.rules; }

# our_routes ADDED: a line `NETWORK PORT` for each of our rules of this kind, from what ufw says was added.
our_routes() { printf '%s\n' "$1" | sed -n "s|^ufw route allow to \([^ ]*\) port \([0-9]*\) proto tcp comment 'slipway:$slug'\$|\1 \2|p"; }

# set_routes PORTS: after set_rules. What is published as one of these may be reached, in the project's own networks: a rule
# for a port alone would open other projects' as well. What was let through before stays, since the release before may need
# it again, but for networks that the project hasn't any more.
set_routes() {
    routes=$(our_routes "$added")
    subnets=
    if [ -n "$1" ] && judges_docker; then
        ids=$(project_ps -q)
        networks=$(docker network ls -q --filter "label=com.docker.compose.project=$slug")
        [ -z "$networks" ] || subnets=$(docker network inspect --format '{{range .IPAM.Config}}{{println .Subnet}}{{end}}' $networks)
        [ -z "$ids" ] || docker inspect --format "$inner_ports" $ids | sort -u | while read -r inner published; do
            case "$inner $1 " in */tcp*" ${published:-none} "*) ;; *) continue ;; esac
            for subnet in $subnets; do
                if printf '%s\n' "$routes" | grep -qxF "$subnet ${inner%/tcp}"; then continue; fi
                ufw route allow proto tcp to "$subnet" port "${inner%/tcp}" comment "slipway:$slug" >&2
                tell added "${inner%/tcp} in $subnet"
            done
        done
    fi
    [ -n "$routes" ] || return 0
    while read -r subnet inner; do
        if printf '%s\n' "$subnets" | grep -qxF "$subnet"; then continue; fi
        ufw route delete allow proto tcp to "$subnet" port "$inner" >&2
        tell removed "$inner in $subnet"
    done <<END
$routes
END
}
inner_ports="\
{{range \$port, \$bindings := .NetworkSettings.Ports}}{{range \$bindings}}{{\$port}} {{.HostPort}}{{\"\\n\"}}{{end}}{{end}}"
