# Parameters: registry auth patience limit first; after project_files.sh, room.sh, front_door.sh, compose_call.sh,
# containers.sh, lock.sh, git.sh, restore_files.sh, docker_login.sh, service_report.sh, stability_gate.sh, sockets.sh,
# rehearse.sh, bots_first.sh, door_slots.sh, door_site.sh, hosts.sh, one_shots.sh, next_release.sh, switch.sh, judged.sh,
# ufw_rules.sh. Goes back to the previous release, and waits until it is stable. Its images are still here; the login is
# for those that somebody has removed.
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
    read_doors
    if [ "$first" = stop ]; then leave_site; else leave_domains; fi
    doors_known=yes
    restore_rules || :
    exit 0
fi
tell served yes
restore_files
restore_rules || echo "warning: the ufw rules of the release before couldn't be put back: ufw allows what the failed one asked for" >&2
cleanup() { docker_logout; }
see
finish_switches
if [ -f .slipway/served/stopped ]; then
    # Somebody had stopped it, and it stays so.
    read_doors
    if [ -n "$doors" ]; then
        take_slots
        drop_former
        leave_site
    else
        close_door
    fi
    require_judged
    docker_login
    project_compose create --no-build --remove-orphans >&2
    docker_logout
    if find_firsts; then forget_firsts; fi
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
    if [ -f "$front/slots/$slug" ]; then
        read_doors
        drop_former
        write_slots
    fi
    patience=0
    if [ -n "$(running)" ]; then gate; fi
    rm -rf .slipway/served
    exit 0
fi
require_judged
docker_login
# As it was asked when it was deployed.
checks=$(cat .slipway/checks 2>/dev/null) || checks=
serves=yes
start_again || serves=no
docker_logout
[ "$serves" = yes ] || exit 4
rm -rf .slipway/served
