# After project_files.sh, require_project.sh, room.sh, front_door.sh, compose_call.sh, containers.sh, lock.sh, git.sh,
# restore_files.sh, service_report.sh, judged.sh, door_slots.sh, door_site.sh, one_shots.sh. Stops the project's containers. Docker
# remembers that they were stopped by hand: they stay so when the server reboots. The mark keeps CI's deploy key from
# starting them.
enter
: >.slipway/stopped
if [ -n "$(any_running)" ]; then
    stop_running
    [ -z "$(any_running)" ] || die stop-failed "containers of $slug still run after they were stopped"
    tell change changed
fi
leave_site
if [ -f .slipway/served/commit ]; then
    # A deployment was interrupted and its release is unproven. The previous one will be started; where its containers
    # can't be made now, what was saved stays, and starting makes them.
    restore_files
    tell change changed
    if is_judged && project_compose create --no-build --remove-orphans --pull never >&2; then
        if find_firsts; then forget_firsts; fi
        rm -rf .slipway/served
    fi
fi
tell_all
