# Parameters: prefix repositories remove_volumes; after project_files.sh, room.sh, front_door.sh, compose_call.sh,
# containers.sh, lock.sh, git.sh, judged.sh, door_slots.sh, door_site.sh, undeploy_enter.sh. Removes containers,
# networks, images and, if asked for, volumes. All are found by their labels and names: the compose files may be gone or
# broken.
enter_ours
# There is no previous release to restore any more.
rm -rf .slipway/served
label=label=com.docker.compose.project=$slug
mkdir -p "$kept"

ids=$(project_ps -aq)
if [ -n "$ids" ]; then
    # Volumes without a name carry no label either, and the containers are the only ones that know them.
    {
        if [ -f "$kept/volumes" ]; then cat "$kept/volumes"; fi
        docker inspect --format '{{range .Mounts}}{{if eq .Type "volume"}}{{println .Name}}{{end}}{{end}}' $ids |
            grep -xE '[0-9a-f]{64}' || :
    } | sort -u | put "$kept/volumes" 600
    # A database shuts down in its own time before it's removed.
    if [ -n "$(any_running)" ]; then
        stop_running
    fi
    docker rm -f $ids >&2 || die undeploy-failed "containers of $slug couldn't be removed"
    for id in $ids; do tell container "$id"; done
fi
close_door
tell_door
# stays WHAT CONTAINERS: tells what containers of others keep from being removed, and goes on; where none does, it's a failure.
stays() {
    users=$(printf '%s\n' "$2" | sort -u | tr '\n' ' ')
    users=${users# }
    [ -n "$users" ] || die undeploy-failed "$1 of $slug couldn't be removed"
    tell stays "$1: in use by ${users% }"
}
for network in $(docker network ls -q --filter "$label"); do
    if docker network rm "$network" >&2; then
        tell network "$network"
    else
        stays "network $(docker network inspect --format '{{.Name}}' "$network")" \
            "$(docker network inspect --format '{{range .Containers}}{{println .Name}}{{end}}' "$network")"
    fi
done

# Images of this repository only; one that another project's container uses stays, docker sees to that.
prefix=$(printf '%s' "$prefix" | base64 -d)
{
    printf '%s' "$repositories" | base64 -d
    images .env | sed -e 's/@.*//' -e 's/:[^:/]*$//'
} | sort -u | while read -r repository; do
    case $repository in "$prefix"*) ;; *) continue ;; esac
    docker image ls --digests --format '{{.Tag}} {{.Digest}} {{.ID}}' "$repository" | while read -r tag digest id; do
        case "$tag $digest" in
        '<none> <none>') image=$id ;;
        '<none> '*) image=$repository@$digest ;;
        *) image=$repository:$tag ;;
        esac
        if docker image rm "$image" >/dev/null 2>&1; then tell image "$image"; fi
    done
done

# volumes: those that there are, each once. For plain assignments only: a docker that doesn't answer isn't one without
# volumes, and must fail the script.
volumes() {
    labelled=$(docker volume ls -q --filter "$label")
    all=$(docker volume ls -q)
    {
        printf '%s\n' "$labelled"
        if [ -f "$kept/volumes" ]; then printf '%s\n' "$all" | grep -xFf "$kept/volumes" || :; fi
    } | sort -u
}
left=$(volumes)
if [ "$remove_volumes" = 1 ]; then
    for volume in $left; do
        if docker volume rm "$volume" >&2; then
            tell volume "$volume"
        else
            stays "volume $volume" "$(docker ps -a --filter "volume=$volume" --format '{{.Names}}')"
        fi
    done
    left=$(volumes)
fi
if [ -z "$left" ]; then
    rm -f "$kept/volumes" "$kept/env" "$kept/data"
else
    put "$kept/data" 600 </dev/null
    for volume in $left; do tell kept "$volume"; done
    # What the data can't be read without; a new deployment begins with it.
    if [ -f .env ]; then
        drawn=$(sed -n 's/^# generated \([A-Za-z0-9_]*\)$/|\1/p' .env | tr -d '\n')
        names="POSTGRES_[A-Z_]*|DATABASE_URL|APP_SECRET_KEY$drawn"
        # With what is noted of them: one that a request gave may cover what the data began with.
        { grep -E "^((# before )?($names)=|# given ($names) )" .env || [ $? -eq 1 ]; } | put "$kept/env" 600
    fi
fi
