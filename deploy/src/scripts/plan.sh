# Parameters: ports; after project_files.sh, room.sh, compose_call.sh, containers.sh, lock.sh, git.sh, workflows.sh,
# ufw_rules.sh, authorized_keys.sh. Runs on the overlay on which the stages before compose were rehearsed. Tells how
# what they made differs from what runs.
enter
tell_workflows
if [ -f .slipway/served/commit ]; then
    tell checkout "$(cat .slipway/served/commit)"
    tell files "$(repo_git diff --shortstat "$(cat .slipway/served/commit)" HEAD)"
fi
found=$(service_ps -aq)
if [ -n "$found" ]; then tell_origins "$(docker inspect --format "$origin_format" $found 2>/dev/null)"; fi
resolve || die compose-invalid "docker compose refuses the project's files"
tell config "$(printf '%s' "$model" | base64 -w 0)"
# Of the resolved configuration: of files, compose tells hashes without what env files add, unlike those it labels with.
# Not piped into the loops: a compose or docker that fails must fail the plan.
hashes=$(project_compose config --hash '*')
printf '%s\n' "$hashes" | while read -r service hash; do tell hash "$service $hash"; done
wanted=$(project_compose config --images)
printf '%s\n' "$wanted" | sort -u | while read -r image; do
    if id=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null); then tell image "$image $id"; fi
done
format="\
{{index .Config.Labels \"com.docker.compose.service\"}} \
{{index .Config.Labels \"com.docker.compose.config-hash\"}} \
{{.State.Status}} {{.Image}} {{.Config.Image}}"
for container in $found; do tell container "$(docker inspect --format "$format" "$container")"; done
if command -v ufw >/dev/null 2>&1; then
    tell firewall ufw
    added=$(ufw show added)
    for port in $(our_rules "$added"); do tell rule "$port"; done
    for port in $ports; do
        if rule_of_others "$added" "$port"; then tell others "$port"; fi
    done
fi
find_keys
if [ -n "$(key_line)" ]; then tell key present; fi
