# Parameters: registry policy rehearsed patience limit; after project_files.sh, compose_call.sh, containers.sh, lock.sh,
# git.sh, docker_login.sh, proofs.sh, service_report.sh, stability_gate.sh, start_outcome.sh, sockets.sh, rehearse.sh,
# bots_first.sh. Pulls, rehearses, starts, and waits until everything is stable.
enter
remove_rehearsals
cleanup() {
    docker_logout
    if [ -n "${trial:-}" ]; then docker rm -fv "$trial" >/dev/null 2>&1 || :; fi
}
docker_login

before=$(containers | sort)

if ! project_compose pull -q --policy "$policy" >&2; then
    tell phase pull
    exit 4
fi
docker_logout
rehearse || exit 4
rm -f .slipway/stopped
# A container that was made to replace another one when compose, or the daemon under it, died: it takes the other's
# place, or else it's in the way. Its volumes may be the other's.
project_ps -a --filter status=created --filter 'name=^/?[0-9a-f]{12}_' --format '{{.Names}}' | while read -r name; do
    docker rename "$name" "${name#*_}" 2>/dev/null || docker rm -f "$name" >/dev/null
done
replace_bots || exit 4
up=done
project_compose up -d --no-build --remove-orphans >&2 || up=failed
judge_start "$before" "$(containers | sort)"
tell proof "$(release_proof)"
