# Parameters: slug. Which containers belong to the project.

# project_ps OPTIONS: docker's list of all containers of the project; service_ps: without those that are only tried.
project_ps() { docker ps --no-trunc --filter "label=com.docker.compose.project=$slug" "$@"; }
service_ps() { project_ps --filter label=com.docker.compose.oneoff=False "$@"; }

# running: the ids of the project's containers that run.
running() { service_ps -q | sort; }

# containers: the ids of all of them, stopped ones included.
containers() { service_ps -aq; }

# any_running: the project's containers that run or would run again, one-offs included.
any_running() { project_ps -q; }

# remove_rehearsals: removes the containers of a rehearsal whose script was killed, or whose server lost its power.
remove_rehearsals() {
    left=$(project_ps -aq --filter label=com.docker.compose.oneoff=True --filter "name=^/?$slug-rehearsal-")
    if [ -n "$left" ]; then docker rm -fv $left >/dev/null; fi
}
