# After project.sh and gate.sh. Stops the project's containers. Docker remembers that they were stopped by hand: they
# stay so when the server reboots. The mark keeps CI's deploy key from starting them.
[ -d "$dir/.slipway" ] || die not-deployed "there is no project in $dir"
enter
: >.slipway/stopped
if [ -n "$(any_running)" ]; then
    # In the order of their dependencies, where the files still tell it; then whatever is left.
    project_compose stop >&2 || :
    left=$(any_running)
    if [ -n "$left" ]; then docker stop $left >&2 || :; fi
    [ -z "$(any_running)" ] || die stop-failed "containers of $slug still run after they were stopped"
    tell change changed
fi
if [ -f .slipway/served/commit ]; then
    # A deployment that hasn't proven itself was cut short. What will be started is what served before it; where that
    # can't be made ready now, the note stays, and starting does it.
    restore
    tell change changed
    if project_compose create --no-build --remove-orphans --pull never >&2; then rm -rf .slipway/served; fi
fi
tell_all
