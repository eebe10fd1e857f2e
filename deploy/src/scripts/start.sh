# Parameters: patience limit; after project.sh and gate.sh. Starts what was stopped, as it is, from the images that are
# here, and waits until it's stable. Where a deployment was cut short that hasn't proven itself, that is what served
# before it.
[ -d "$dir/.slipway" ] || die not-deployed "there is no project in $dir"
enter
rm -f .slipway/stopped
before=$(running)
as_it_is=--no-recreate
if [ -f .slipway/served/commit ]; then
    restore
    as_it_is=
fi
if project_compose up -d --no-build $as_it_is --pull never >&2; then
    up=done
else
    up=failed
    patience=10
fi
if [ "$before" = "$(running)" ]; then tell change unchanged; else tell change changed; fi
gate
if [ "$answer" = ok ] && [ "$up" = "done" ]; then
    if [ -z "$as_it_is" ]; then rm -rf .slipway/served; fi
    exit 0
fi
tell phase "$up"
tell verdict "${answer% *}"
case $answer in *' '*) docker logs --tail 30 "${answer##* }" >&2 || : ;; esac
exit 4
