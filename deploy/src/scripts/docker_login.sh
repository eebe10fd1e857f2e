# Parameters: slug registry auth?; after project_files.sh. The login to the image registry.

# docker_login: a DOCKER_CONFIG in memory for this process only, with what the server's own has but its credentials: plugins,
# contexts, proxies. Restoring makes containers with it.
docker_login() {
    # Left by one that was killed.
    rm -rf /dev/shm/slipway."$slug".*
    [ -n "${auth:-}" ] || return 0
    own_config=${DOCKER_CONFIG:-${HOME:-/root}/.docker} had_config=${DOCKER_CONFIG:-}
    login_config=$(mktemp -d "/dev/shm/slipway.$slug.XXXXXXXX")
    index=$registry
    # As Docker calls its own.
    if [ "$index" = docker.io ]; then index=https://index.docker.io/v1/; fi
    for part in "$own_config"/*; do
        case $part in */config.json | */'*') ;; *) ln -s "$part" "$login_config/" ;; esac
    done
    {
        printf '{'
        if [ -f "$own_config/config.json" ]; then without_logins <"$own_config/config.json"; fi
        printf '"auths":{"%s":{"auth":"%s"}}}\n' "$index" "$auth"
    } >"$login_config/config.json"
    export DOCKER_CONFIG="$login_config"
}
docker_logout() {
    [ -n "${login_config:-}" ] || return 0
    rm -rf "$login_config"
    login_config=
    if [ -n "$had_config" ]; then DOCKER_CONFIG=$had_config; else unset DOCKER_CONFIG; fi
}

# without_logins: the members of the JSON object on stdin, but those with credentials, each with a comma; nothing where it's
# broken.
without_logins() {
    awk '
        function kept(member) { return member == "" || tolower(member) ~ /^"(auths|credsstore|credhelpers)":/ ? "" : member "," }
        { text = text $0 "\n" }
        END {
            for (at = 1; at <= length(text); at++) {
                c = substr(text, at, 1)
                if (quoted) {
                    if (c == "\\") c = c substr(text, ++at, 1)
                    else if (c == "\"") quoted = 0
                } else if (c == "\"") quoted = 1
                else if (c ~ /[ \t\r\n]/) continue
                else if (c ~ /[{[]/ && depth++ == 0) continue
                else if ((c ~ /[]}]/ && --depth == 0) || (c == "," && depth == 1)) {
                    members = members kept(member)
                    member = ""
                    continue
                }
                member = member c
            }
            if (depth == 0 && !quoted && member == "") printf "%s", members
        }'
}
