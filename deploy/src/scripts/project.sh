# Parameters: root slug. The one place that knows how a project lies on disk and how compose is called for it.
dir=$root/$slug
base=infra/compose.base.yml
prod=infra/compose.prod.yml
override=infra/compose.slipway.yml
# What an undeployment leaves, as long as there are volumes: the settings that their data need.
kept=$root/.slipway-kept/$slug

# project_compose ARGUMENTS: the one prefix of every compose call, run in $dir.
project_compose() {
    if [ -f "$override" ]; then set -- -f "$override" "$@"; fi
    if [ -f .env ]; then set -- --env-file .env -f "$base" -f "$prod" "$@"; else set -- --env-file /dev/null -f "$base" -f "$prod" "$@"; fi
    docker compose --project-name "$slug" "$@"
}

# enter: into the project's directory, alone. The lock is the kernel's: it ends with its holder.
enter() {
    cd "$dir"
    mkdir -p -m 700 .slipway
    # A rehearsal touches nothing that anybody else sees.
    [ -z "${scratch:-}" ] || return 0
    exec 9>.slipway/lock
    flock -w 120 9 || die internal-error "another process holds $dir/.slipway/lock"
}

# repo_git ARGUMENTS: git in the project, without hooks and without questions.
repo_git() {
    GIT_DIR="$dir/.git" GIT_WORK_TREE="$dir" GIT_TERMINAL_PROMPT=0 git -c safe.directory="$dir" \
        -c core.hooksPath=/dev/null -c core.fsmonitor=false -c advice.detachedHead=false -c gc.autoDetach=false "$@"
}

# put FILE MODE: stdin becomes FILE. Made in .slipway, on the same file system: a crash leaves no secret elsewhere.
put() {
    cat >.slipway/put
    chmod "$2" .slipway/put
    sync .slipway/put
    mv -fT .slipway/put "$1"
}

# images FILE: the images that an .env names.
images() { sed -n "s/^[A-Za-z0-9_]*_IMAGE=[\"']\{0,1\}\([^\"' ]*\).*/\1/p" "$@" 2>/dev/null || :; }

# retire: the release that served before isn't needed to put back any more. Its images are kept as long as it's the one
# before this; its secrets aren't.
retire() {
    before=$(images .slipway/served/env)
    if [ -n "$before" ] && [ "$before" != "$(images .env)" ]; then printf '%s\n' "$before" | put .slipway/previous 600; fi
    rm -rf .slipway/served
}

# registry_login: a DOCKER_CONFIG in memory for this process only, from the credential in .env.
registry_login() {
    auth=$(sed -n 's/^SLIPWAY_REGISTRY_AUTH="\([A-Za-z0-9+/=]*\)"$/\1/p' .env)
    [ -n "$auth" ] || return 0
    DOCKER_CONFIG=$(mktemp -d "/dev/shm/slipway.$slug.XXXXXXXX")
    export DOCKER_CONFIG
    printf '{"auths":{"%s":{"auth":"%s"}}}\n' "$registry" "$auth" >"$DOCKER_CONFIG/config.json"
}
registry_logout() {
    if [ -n "${DOCKER_CONFIG:-}" ]; then rm -rf "$DOCKER_CONFIG"; fi
    unset DOCKER_CONFIG
}
