# Parameters: ports; after project_files.sh, room.sh, front_door.sh, compose_call.sh, containers.sh, lock.sh, git.sh,
# workflows.sh, ufw_rules.sh, authorized_keys.sh. Runs on the overlay on which the stages before compose were rehearsed.
# Tells how what they made differs from what runs.
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
{{.State.Status}} {{.Image}} {{.Config.Image}} \
{{range .HostConfig.PortBindings}}{{range .}}{{.HostPort}},{{end}}{{end}} \
{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}},{{end}}{{end}}"
for container in $found; do tell container "$(docker inspect --format "$format" "$container")"; done
read_doors
if grep -q '^SLIPWAY_REHEARSAL="off"$' .env; then
    doors=$(printf '%s' "$doors" | sed 's/^\([^ ]* [^ ]* [^ ]*\) overlap/\1 stop-first:its-rehearsal-is-off/')
fi
printf '%s\n' "$doors" | while read -r service port _ way _; do
    if [ -n "$service" ]; then tell door "$service $port $way"; fi
done
if [ -f "$front/slots/$slug" ]; then
    while read -r port slot_a slot_b; do
        is_door "$port" || tell given_back "$slot_a $slot_b"
    done <"$front/slots/$slug"
fi
if command -v ufw >/dev/null 2>&1; then
    tell firewall ufw
    added=$(ufw show added)
    for port in $(our_rules "$added"); do tell rule "$port"; done
    for port in $ports; do
        if rule_of_others "$added" "$port"; then tell others "$port"; fi
    done
    whose=FRONT-DOOR
    for port in $(our_rules "$added"); do tell door_rule "$port"; done
    for port in 80 443; do
        if rule_of_others "$added" "$port"; then tell door_others "$port"; fi
    done
    whose=
    if [ -n "$(find "$front/domains" -type f ! -name "$slug" -print -quit 2>/dev/null)" ]; then tell domains_of others; fi
fi
find_keys
if [ -n "$(key_line)" ]; then tell key present; fi
