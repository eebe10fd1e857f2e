# Parameters: slug registry auth?; after project_files.sh. The login to the image registry.

# docker_login: a DOCKER_CONFIG in memory for this process only.
docker_login() {
    # Left by one that was killed.
    rm -rf /dev/shm/slipway."$slug".*
    [ -n "${auth:-}" ] || return 0
    DOCKER_CONFIG=$(mktemp -d "/dev/shm/slipway.$slug.XXXXXXXX")
    export DOCKER_CONFIG
    index=$registry
    # As Docker calls its own.
    if [ "$index" = docker.io ]; then index=https://index.docker.io/v1/; fi
    printf '{"auths":{"%s":{"auth":"%s"}}}\n' "$index" "$auth" >"$DOCKER_CONFIG/config.json"
}
docker_logout() {
    if [ -n "${DOCKER_CONFIG:-}" ]; then rm -rf "$DOCKER_CONFIG"; fi
    unset DOCKER_CONFIG
}
