# Parameters: slug. Which containers belong to the project.

# project_ps OPTIONS: docker's list of all containers of the project; service_ps: without those that are only tried.
project_ps() { docker ps --no-trunc --filter "label=com.docker.compose.project=$slug" "$@"; }
service_ps() { project_ps --filter label=com.docker.compose.oneoff=False "$@"; }

# running: the ids of the project's containers that run.
running() { service_ps -q | sort; }

# containers: the ids of all of them, stopped ones included.
containers() { service_ps -aq; }

# tell_origins: tells of each container, stopped ones included, what Slipway has written upon it, and of their images
# what these say of themselves: CI's job changes the second alone. In JSON, since an image may say anything.
container_origin="\
[{{json (index .Config.Labels \"com.docker.compose.service\")}},{{.State.Running}},{{json .Image}},{{json .Config.Image}},\
{{json (index .Config.Labels \"slipway.commit\")}},\
[{{range \$_, \$on := .HostConfig.PortBindings}}{{range \$on}}{{json .HostPort}},{{end}}{{end}}\"\"]]"
image_origin="\
[{{json .Id}},{{json (index .Config.Labels \"org.opencontainers.image.revision\")}},\
{{json (index .Config.Labels \"org.opencontainers.image.source\")}}]"
tell_origins() {
    ids=$(containers)
    [ -n "$ids" ] || return 0
    docker inspect --format "$container_origin" $ids 2>/dev/null |
        while IFS= read -r line; do [ -z "$line" ] || tell container_origin "$line"; done
    images_of_ids=$(docker inspect --format '{{.Image}}' $ids 2>/dev/null | sort -u || :)
    [ -n "$images_of_ids" ] || return 0
    docker image inspect --format "$image_origin" $images_of_ids 2>/dev/null |
        while IFS= read -r line; do [ -z "$line" ] || tell image_origin "$line"; done
}

# any_running: the project's containers that run or would run again, one-offs included.
any_running() { project_ps -q; }

# remove_rehearsals: removes the containers of a rehearsal whose script was killed, or whose server lost its power.
remove_rehearsals() {
    left=$(project_ps -aq --filter label=com.docker.compose.oneoff=True --filter "name=^/?${slug}[-_]rehearsal[-_]")
    if [ -n "$left" ]; then docker rm -fv $left >/dev/null; fi
}

# end_replacements: a container that was made to replace another one when compose, or the daemon under it, died, takes the
# other's place, or else it's in the way. Its volumes may be the other's.
end_replacements() {
    project_ps -a --filter status=created --filter 'name=^/?[0-9a-f]{12}_' --format '{{.Names}}' | while read -r name; do
        docker rename "$name" "${name#*_}" 2>/dev/null || docker rm -f "$name" >/dev/null
    done
}
