# Parameters: recorded; after project_files.sh, compose_call.sh, containers.sh, lock.sh, git.sh, proofs.sh. Tells what the
# worker needs to decide about .env and the override file; changes nothing.
enter
for file in "$base" "$prod"; do
    [ -f "$file" ] || die compose-file-missing "the repository has no $file"
done
if [ -f .env ]; then tell_file env .env; fi
if by_hand infra/.env.prod; then tell_file env_prod infra/.env.prod; fi
if by_hand infra/.env; then tell_file env_infra infra/.env; fi
if [ -f "$override" ]; then tell_file override "$override"; fi
if [ -f .slipway/sealed ]; then tell_file sealed .slipway/sealed; fi
if [ -f .slipway/served/env ]; then tell_file served .slipway/served/env; fi
if [ -f .env.example ] && [ ! -L .env.example ]; then tell example "$(head -c 65536 .env.example | base64 -w 0)"; fi
if [ "$(stat -c %a .env 2>/dev/null)" = 600 ]; then tell private yes; fi
if [ "$(readlink infra/.env || :)" = ../.env ]; then tell linked yes; fi

# What the project declares about its variables, as the commit itself has it: neither a link nor what somebody has put
# beside counts. Each has the whole of its bytes or none.
contracts=
if repo_git rev-parse -q --verify 'HEAD^{tree}' >/dev/null 2>&1; then
    contracts=$(repo_git ls-tree -r -l --full-tree HEAD infra services)
fi
contract_room=262144
while read -r filemode _ object size path; do
    case $path in
    infra/env.contract.yaml) ;;
    services/*/*/*) continue ;;
    services/*/env.contract.yaml) ;;
    *) continue ;;
    esac
    [ "$filemode" != 120000 ] || die env-contract-invalid "$path is a symbolic link, and must be a file"
    contract_room=$((contract_room - 4096 - size))
    [ "$contract_room" -ge 0 ] || die env-contract-invalid "$path and those before it are more than 256 KiB, or too many"
    tell contract "$(repo_git cat-file blob "$object" | base64 -w 0) $path"
done <<END
$contracts
END

# Compose quotes values of the .env that it complains of. Which of them are secrets is known once all of this was told,
# so that its words are told too, rather than printed.
own_view() { (
    # For this subshell only: the project's own files without ours.
    # shellcheck disable=SC2030
    override=/nonexistent
    project_compose --profile '*' config "$@"
); }
refused() {
    tell complaint "$(own_view "$@" 2>&1 >/dev/null | base64 -w 0)"
    exit 4
}
project=$(own_view --no-interpolate --format json 2>/dev/null) || refused --no-interpolate --format json
tell project "$(printf '%s' "$project" | base64 -w 0)"
variables=$(own_view --variables 2>/dev/null) || refused --variables
printf '%s\n' "$variables" | while read -r name required _; do
    case $required in true | false) tell variable "$name $required" ;; esac
done
printf '%s' "$recorded" | base64 -d | while read -r image; do
    if docker image inspect "$image" >/dev/null 2>&1; then tell local "$image"; fi
done
if docker volume inspect "${slug}_db_data" >/dev/null 2>&1; then tell database yes; fi
# Out here it's the real one: see own_view.
# shellcheck disable=SC2031
if [ -f .env ] && [ -f "$override" ] && tell_used_images; then tell valid yes; fi
image_identity='{{with .Config.Labels}}{{index . "org.opencontainers.image.revision"}}{{end}} {{join .RepoDigests " "}}'
images .env | sort -u | while read -r image; do
    if identity=$(docker image inspect --format "$image_identity" "$image" 2>/dev/null); then
        tell local_of_env "$image $identity"
    fi
done
tell proof "$(env_proof)"
