# Parameters: recorded by_commit asks_docker; after project_files.sh, room.sh, front_door.sh, compose_call.sh,
# containers.sh, git.sh, proofs.sh, judged.sh, own_view.sh. What the worker needs to decide about .env and the override
# file.

# outdated: whether the override file is written anew anyway, since it's of another commit than the checkout.
outdated() {
    [ "$by_commit" = 1 ] && [ -f .slipway/commit ] || return 1
    read -r checked_out <.slipway/commit || return 1
    # The real one: see own_view.
    # shellcheck disable=SC2031
    grep -q '^      slipway\.commit: ' "$override" && ! grep -qxF "      slipway.commit: \"$checked_out\"" "$override"
}

# tell_images_of_env: which of the images that .env names are here, and what they say of themselves.
tell_images_of_env() {
    image_identity='{{with .Config.Labels}}{{index . "org.opencontainers.image.revision"}}{{end}} {{join .RepoDigests " "}}'
    set -- $(images .env | sort -u)
    # All at once, unless one of them isn't here.
    if [ $# -gt 0 ] && identities=$(docker image inspect --format "$image_identity" "$@" 2>/dev/null); then
        while IFS= read -r identity; do
            tell local_of_env "$1 $identity"
            shift
        done <<END
$identities
END
    else
        for image in "$@"; do
            if identity=$(docker image inspect --format "$image_identity" "$image" 2>/dev/null); then
                tell local_of_env "$image $identity"
            fi
        done
    fi
}

# tell_env: tells all of it; changes nothing. In the project's directory, and alone there.
tell_env() {
    for file in "$base" "$prod"; do
        [ -f "$file" ] || die compose-file-missing "the repository has no $file"
    done
    # What compose reads besides has a bound as well: it reads all of a file at once. What no compose file names is data.
    large=$(find infra -type f -size +1024k \( -path "$base" -o -path "$prod" \) -printf '1 %p\n' -o -type f -size +4096k \
        \( -name '*.yml' -o -name '*.yaml' -o -name '*.json' -o -name '*.env' -o -name '.env*' \) -printf '4 %p\n' 2>/dev/null || :)
    while IFS=' ' read -r most file; do
        case $most in
        1) die compose-not-allowed "$file is larger than 1 MiB" ;;
        4)
            if grep -qsF -e "${file##*/}" infra/*.yml infra/*.yaml; then
                die compose-not-allowed "$file is larger than 4 MiB, which is more than compose is to read"
            fi
            ;;
        esac
    done <<END
$large
END
    # A link may lead anywhere here; where compose reads them it leads out of nothing.
    for file in "$base" "$prod"; do [ -L "$file" ] || tell_file compose_file "$file"; done
    if [ -f .env ]; then tell_file env .env; fi
    if by_hand infra/.env.prod; then tell_file env_prod infra/.env.prod; fi
    if by_hand infra/.env; then tell_file env_infra infra/.env; fi
    # Out here it's the real one: see own_view.
    # shellcheck disable=SC2031
    if [ -f "$override" ]; then tell_file override "$override"; fi
    if [ -f .slipway/sealed ]; then tell_file sealed .slipway/sealed; fi
    if [ -f .slipway/served/env ]; then tell_file served .slipway/served/env; fi
    if [ -f .env.example ] && [ ! -L .env.example ]; then tell example "$(head -c 65536 .env.example | base64 -w 0)"; fi
    modes=$line_end$(find .env infra/.env -prune -printf '%p %m %l\n' 2>/dev/null || :)$line_end
    case $modes in *"$line_end.env 600 "*) tell private yes ;; esac
    case $modes in *"${line_end}infra/.env 777 ../.env$line_end"*) tell linked yes ;; esac

    # What the project declares about its variables, as the commit itself has it: neither a link nor what somebody has put
    # beside counts. Each has the whole of its bytes or none.
    if ! contracts=$(repo_git ls-tree -r -l --full-tree HEAD infra services 2>/dev/null); then
        contracts=
        if repo_git rev-parse -q --verify 'HEAD^{tree}' >/dev/null 2>&1; then exit 1; fi
    fi
    contract_room=262144 objects=
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
        objects="$objects$object
"
        tell contract_file "$size $path"
    done <<END
$contracts
END
    [ -z "$objects" ] || tell contract "$(printf '%s' "$objects" | repo_git cat-file --batch | base64 -w 0)"

    see_variables
    tell_variables
    list_volumes
    [ -z "$project" ] || tell_own "$project"
    printf '%s' "$recorded" | base64 -d | while read -r image; do
        if docker image inspect "$image" >/dev/null 2>&1; then tell local "$image"; fi
    done
    if has_volume "${slug}_db_data"; then tell database yes; fi
    # A volume without a name, and with it a database's data, goes from one container to the next.
    if ! grep -qs '^POSTGRES_PASSWORD=' .env && [ -n "$(service_ps -aq --filter label=com.docker.compose.service=db)" ]; then
        tell database yes
    fi
    # shellcheck disable=SC2031
    if [ -f .env ] && [ -f "$override" ] && ! outdated; then
        tell_others 9>&- &
        others=$! valid=yes
        resolve 2>/dev/null || valid=
        # Before anything that is longer than what is told in one piece.
        wait "$others"
        if [ -n "$valid" ]; then
            tell valid yes
            tell_model
            tell proof "$(env_proof)"
        fi
    fi
    # Other drivers have bounds of their own, and so has a daemon that somebody has set up with them.
    if ! grep -qs max-size /etc/docker/daemon.json; then tell logs_unset yes; fi
    if [ "$asks_docker" = 1 ]; then
        docker_setup='{{.LoggingDriver}} {{.ServerVersion}} {{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Version}}{{end}}{{end}}'
        read -r logging versions <<END
$(docker info --format "$docker_setup" 2>/dev/null)
END
        tell logging "$logging"
        tell docker "$versions"
    fi
    # Only CI's job leaves images that a deployment may find there already.
    if [ "$by_commit" != 1 ]; then tell_images_of_env; fi
}
