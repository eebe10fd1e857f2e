# Parameters: registry auth policy rehearsed patience limit; after project_files.sh, compose_call.sh, containers.sh, lock.sh,
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
end_replacements
replace_bots || exit 4
up=done
start_others >&2 || up=failed
judge_start "$before" "$(containers | sort)"
tell proof "$(release_proof)"
