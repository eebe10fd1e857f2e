# Parameters: registry auth patience limit first; after project_files.sh, room.sh, compose_call.sh, containers.sh, lock.sh,
# git.sh, restore_files.sh, docker_login.sh, service_report.sh, stability_gate.sh, judged.sh. Goes back to the
# previous release, and waits until it is stable. Its images are still here; the login is for those that somebody has
# removed.
[ -d "$dir/.slipway" ] || exit 0
enter
see
remove_rehearsals
if [ ! -d .slipway/served ]; then exit 0; fi
if [ ! -f .slipway/served/commit ]; then
    # There is no previous release. The empty directory stays: what is here now mustn't be restored either.
    if [ "$first" = stop ]; then
        ids=$(running)
        if [ -n "$ids" ]; then
            docker stop $ids >&2
            tell stopped yes
        fi
    fi
    exit 0
fi
tell served yes
restore_files
cleanup() { docker_logout; }
if [ -f .slipway/served/stopped ]; then
    # Somebody had stopped it, and it stays so.
    require_judged
    docker_login
    project_compose create --no-build --remove-orphans >&2
    docker_logout
    ids=$(running)
    if [ -n "$ids" ]; then docker stop $ids >&2; fi
    : >.slipway/stopped
    tell stopped yes
    tell_all
    rm -rf .slipway/served
    exit 0
fi
# As a stop leaves it that failed.
rm -f .slipway/stopped
if [ -f .slipway/served/running ] && [ "$(running)" = "$(cat .slipway/served/running)" ]; then
    # No container was touched: what was healthy still is, and what wasn't isn't this deployment's fault.
    tell untouched yes
    patience=0
    if [ -n "$(running)" ]; then gate; fi
    rm -rf .slipway/served
    exit 0
fi
require_judged
docker_login
project_compose up -d --no-build --remove-orphans >&2
docker_logout
gate
[ "$answer" = ok ] || exit 4
rm -rf .slipway/served
