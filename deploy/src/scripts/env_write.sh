# Parameters: env overrides sealed env_prod has_prod; after project_files.sh, room.sh, front_door.sh, compose_call.sh,
# containers.sh, lock.sh, git.sh, proofs.sh, judged.sh. Writes the files, each at once or not at all; before them the names
# of all variables that ever came as secrets.
enter
printf '%s' "$sealed" | put .slipway/sealed 600 base64 -d
printf '%s' "$env" | put .env 600 base64 -d
# CI's own compose calls look for .env next to the first compose file.
[ "$(readlink infra/.env || :)" = ../.env ] || point_at_env infra/.env
# A file of its own: databases read it, and what changes with each release would have them made anew.
if [ "$has_prod" = 1 ]; then printf '%s' "$env_prod" | put infra/.env.prod 600 base64 -d; fi
printf '%s' "$overrides" | put "$override" 644 base64 -d
sync .
mark env
tell_others 9>&- &
others=$! valid=yes
resolve || valid=
# Before anything that is longer than what is told in one piece.
wait "$others"
[ -n "$valid" ] || die compose-invalid "docker compose refuses the project's files"
tell_model
tell proof "$(env_proof)"
