# Parameters: env overrides sealed prod_link; after project_files.sh, compose_call.sh, containers.sh, lock.sh,
# proofs.sh. Writes both files, each at once or not at all; before them the names of all variables that ever came as
# secrets.
enter
printf '%s' "$sealed" | base64 -d | put .slipway/sealed 600
printf '%s' "$env" | base64 -d | put .env 600
point() {
    ln -sfn ../.env .slipway/link
    mv -fT .slipway/link "$1"
}
# CI's own compose calls look for .env next to the first compose file.
point infra/.env
if [ "$prod_link" = 1 ]; then point infra/.env.prod; fi
printf '%s' "$overrides" | base64 -d | put "$override" 644
sync .
project_compose config -q || die compose-invalid "docker compose refuses the project's files"
tell proof "$(env_proof)"
