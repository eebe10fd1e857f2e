# Parameters: patience limit; after project_files.sh, require_project.sh, room.sh, compose_call.sh, containers.sh,
# lock.sh, git.sh, restore_files.sh, service_report.sh, stability_gate.sh, start_outcome.sh, judged.sh. Starts what
# was stopped, as it is, from the images that are here, and waits until it's stable. Where a deployment was
# interrupted and its release is unproven, the previous one is started.
enter
rm -f .slipway/stopped
before=$(running)
as_it_is=--no-recreate
if [ -f .slipway/served/commit ]; then
    restore_files
    as_it_is=
fi
require_judged
up=done
project_compose up -d --no-build $as_it_is --pull never >&2 || up=failed
judge_start "$before" "$(running)"
if [ -z "$as_it_is" ]; then rm -rf .slipway/served; fi
