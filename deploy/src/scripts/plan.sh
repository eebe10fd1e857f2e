# Parameters: ports; after layer.sh and project.sh, when the stages before compose were rehearsed. Tells how what they
# made differs from what runs.
enter
if [ -f .slipway/served/commit ]; then
    tell serving "$(cat .slipway/served/commit)"
    tell files "$(repo_git diff --shortstat "$(cat .slipway/served/commit)" HEAD)"
fi
config=$(project_compose config --format json) || die compose-invalid "docker compose refuses the project's files"
tell config "$(printf '%s' "$config" | base64 -w 0)"
# Of the resolved configuration: of files, compose tells hashes without what env files add, unlike those it labels with.
printf '%s' "$config" | compose -f - config --hash '*' | while read -r service hash; do tell hash "$service $hash"; done
project_compose config --images | sort -u | while read -r image; do
    if id=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null); then tell image "$image $id"; fi
done
docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$slug" --filter label=com.docker.compose.oneoff=False |
    while read -r container; do
        tell container "$(docker inspect --format \
            '{{index .Config.Labels "com.docker.compose.service"}} {{index .Config.Labels "com.docker.compose.config-hash"}} {{.State.Status}} {{.Image}} {{.Config.Image}}' "$container")"
    done
if command -v ufw >/dev/null 2>&1; then
    tell firewall ufw
    added=$(ufw show added)
    for port in $(our_rules "$added"); do tell rule "$port"; done
    for port in $ports; do
        if rule_of_others "$added" "$port"; then tell others "$port"; fi
    done
fi
login=${SUDO_USER:-$(id -un)}
if grep -q " slipway:$slug\$" "$(getent passwd "$login" | cut -d : -f 6)/.ssh/authorized_keys" 2>/dev/null; then tell key present; fi
