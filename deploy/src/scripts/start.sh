# Parameters: patience limit; after project_files.sh, require_project.sh, room.sh, front_door.sh, compose_call.sh,
# containers.sh, lock.sh, git.sh, restore_files.sh, service_report.sh, stability_gate.sh, start_outcome.sh, sockets.sh,
# rehearse.sh, bots_first.sh, door_slots.sh, door_site.sh, hosts.sh, one_shots.sh, next_release.sh, switch.sh, judged.sh. Starts what
# was stopped, as it is, from the images that are here, and waits until it's stable. Where a deployment was interrupted
# and its release is unproven, the previous one is started.
enter
rm -f .slipway/stopped
before=$(running)
as_it_is=--no-recreate
if [ -f .slipway/served/commit ]; then
    restore_files
    as_it_is='' putting_back=yes
fi
require_judged
see
ready_door
if [ -z "$doors" ]; then close_door; else give_back; fi
finish_switches
up=done
# What has lost its slot to somebody else is made anew for another one.
if [ -n "${moved_slots:-}" ]; then same=; else same=$as_it_is; fi
find_firsts || firsts=
# What was put back, or rolled back to, is there without its migration.
for first in $firsts; do
    seen_of "$first"
    [ -n "$ids" ] || putting_back=yes
done
bring_up $same --pull never >&2 || up=failed
judge_start "$before" "$(running)"
checks=$(cat .slipway/checks 2>/dev/null) || checks=
if ! all_answer; then
    tell phase "$up"
    exit 4
fi
moves=''
switch
if [ -z "$as_it_is" ]; then rm -rf .slipway/served; fi
