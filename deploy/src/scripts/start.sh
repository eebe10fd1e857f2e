# Parameters: patience; after project.sh and gate.sh. Starts what was stopped, as it is, from the images that are here, and
# waits until it's stable.
[ -d "$dir/.slipway" ] || die not-deployed "there is no project in $dir"
enter
rm -f .slipway/stopped
before=$(running)
if project_compose up -d --no-build --no-recreate --pull never >&2; then
    up=done
else
    up=failed
    patience=10
fi
if [ "$before" = "$(running)" ]; then tell change unchanged; else tell change changed; fi
gate
if [ "$answer" = ok ] && [ "$up" = "done" ]; then exit 0; fi
tell phase "$up"
tell verdict "${answer% *}"
case $answer in *' '*) docker logs --tail 30 "${answer##* }" >&2 || : ;; esac
exit 4
