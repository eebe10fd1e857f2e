# Parameters: registry policy patience limit; after project.sh, gate.sh and rehearse.sh. Pulls, rehearses, starts, and
# waits until everything is stable.
enter
end_rehearsals
cleanup() {
    registry_logout
    if [ -n "${trial:-}" ]; then docker rm -fv "$trial" >/dev/null 2>&1 || :; fi
}
registry_login

before=$(containers | sort)

if ! project_compose pull -q --policy "$policy" >&2; then
    tell phase pull
    exit 4
fi
registry_logout
rehearse || exit 4
rm -f .slipway/stopped
# A container that was made to replace another one when compose, or the daemon under it, died: it takes the other's
# place, or else it's in the way. Its volumes may be the other's.
project_ps -a --filter status=created --filter 'name=^/?[0-9a-f]{12}_' --format '{{.Names}}' | while read -r name; do
    docker rename "$name" "${name#*_}" 2>/dev/null || docker rm -f "$name" >/dev/null
done
if project_compose up -d --no-build --remove-orphans >&2; then
    up=done
else
    # Nothing more will start: what is there shows soon why.
    up=failed
    patience=10
fi

if [ "$before" = "$(containers | sort)" ]; then tell change unchanged; else tell change changed; fi
gate
if [ "$answer" = ok ] && [ "$up" = "done" ]; then
    tell proof "$(release_proof)"
    exit 0
fi
tell phase "$up"
tell verdict "${answer% *}"
case $answer in *' '*) docker logs --tail 30 "${answer##* }" >&2 || : ;; esac
exit 4
