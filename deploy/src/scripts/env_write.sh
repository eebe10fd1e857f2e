# Parameters: env overrides sealed env_prod has_prod; after project_files.sh, room.sh, front_door.sh, compose_call.sh,
# containers.sh, lock.sh, git.sh, proofs.sh, judged.sh. Writes the files, each at once or not at all; before them the names
# of all variables that ever came as secrets.
enter
printf '%s' "$sealed" | base64 -d | put .slipway/sealed 600
printf '%s' "$env" | base64 -d | put .env 600
# CI's own compose calls look for .env next to the first compose file.
point_at_env infra/.env
# A file of its own: databases read it, and what changes with each release would have them made anew.
if [ "$has_prod" = 1 ]; then printf '%s' "$env_prod" | base64 -d | put infra/.env.prod 600; fi
printf '%s' "$overrides" | base64 -d | put "$override" 644
sync .
mark env
resolve || die compose-invalid "docker compose refuses the project's files"
tell_model
tell proof "$(env_proof)"
