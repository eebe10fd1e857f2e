# Parameters: door? acme?; after project_files.sh, front_door.sh, containers.sh, door_slots.sh. What the front door runs
# with, and how it's installed, upgraded, loaded anew and removed.

# site: prints the project's part of the configuration, from $doors.
site() {
    while read -r _ its_public _ _ its_domains; do
        [ -n "$its_public" ] || continue
        slots_of "$its_public"
        printf '(%s-%s) {\n' "$slug" "$its_public"
        for its_slot in b a; do
            if [ "$its_slot" = b ]; then its_port=$slot_b; else its_port=$slot_a; fi
            printf '\t@%s file {\n\t\troot /routes/%s\n\t\ttry_files /%s.%s\n\t}\n\thandle @%s {\n' \
                "$its_slot" "$slug" "$slot_a-$slot_b" "$its_slot" "$its_slot"
            printf '\t\treverse_proxy 127.0.0.1:%s {\n\t\t\tstream_close_delay 720h\n' "$its_port"
            # A program closes idle connections after some seconds: a request that is on its way then is lost.
            printf '\t\t\ttransport http {\n\t\t\t\tkeepalive 500ms\n\t\t\t\tcompression off\n\t\t\t}\n\t\t}\n\t}\n'
        done
        printf '\thandle {\n\t\trespond "nothing serves here at the moment" 503\n\t}\n}\n'
        printf 'http://:%s {\n\timport %s-%s\n}\n' "$its_public" "$slug" "$its_public"
        if [ -n "$its_domains" ]; then
            printf '%s {\n\timport %s-%s\n}\n' "$(printf '%s' "$its_domains" | sed 's/ /, /g')" "$slug" "$its_public"
        fi
    done <<END
$doors
END
}

# door_settings: prints what is the same for all projects. In $acme, base64, a line for each setting of certificates.
door_settings() {
    printf '{\n\tadmin unix//run/front-door/admin.sock\n\tpersist_config off\n\tstorage file_system /data\n'
    printf '\tskip_install_trust\n\trenew_interval 1m\n\tlog {\n\t\tlevel WARN\n\t}\n\tservers {\n\t\tprotocols h1 h2\n\t}\n'
    key='' mac=''
    printf '%s\n' "$(printf '%s' "${acme:-}" | base64 -d)" | {
        while read -r setting value; do
            case $setting in
            directory) printf '\tacme_ca %s\n' "$value" ;;
            email) printf '\temail %s\n' "$value" ;;
            root) printf '\tacme_ca_root /etc/caddy/acme-root.pem\n' ;;
            eab_id) key=$value ;;
            eab_key) mac=$value ;;
            esac
        done
        if [ -n "$key" ]; then printf '\tacme_eab {\n\t\tkey_id %s\n\t\tmac_key %s\n\t}\n' "$key" "$mac"; fi
    }
    printf '}\nimport sites/*.caddy\n'
}

# keep_acme_root: the authority's own certificate, where the system doesn't trust it already.
keep_acme_root() {
    [ -n "${door:-}" ] || return 0
    printf '%s' "${acme:-}" | base64 -d | sed -n 's/^root //p' | base64 -d >"$front/put"
    if [ ! -s "$front/put" ]; then
        rm -f "$front/put" "$front/etc/acme-root.pem"
    elif ! cmp -s "$front/put" "$front/etc/acme-root.pem"; then
        : >"$front/unloaded"
        mv -fT "$front/put" "$front/etc/acme-root.pem"
    fi
}

# run_door NAME: starts a door beside one that may listen already: the kernel shares new connections between both.
run_door() {
    place=$front/run/$(date +%s%N)
    mkdir -p "$place"
    docker run -d --name "$1" --user "$(id -u):$(id -g)" --network host --userns host --restart always --read-only --cap-drop ALL --cap-add NET_BIND_SERVICE \
        --security-opt no-new-privileges --pids-limit 4096 --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 \
        --label "slipway.front-door=$door" \
        -v "$front/etc:/etc/caddy:ro" -v "$front/routes:/routes:ro" -v "$front/data:/data" -v "$place:/run/front-door" \
        "$door" caddy run --config /etc/caddy/Caddyfile --adapter caddyfile >/dev/null ||
        die front-door-failed "the server's front door couldn't be started from image $door, which the server pulls without a credential"
    tries=0
    until [ -S "$place/admin.sock" ] && its_version=$(docker exec "$1" caddy version); do
        tries=$((tries + 1))
        if [ "$tries" -gt 100 ]; then
            docker logs --tail 20 "$1" >&2 || :
            docker rm -f "$1" >/dev/null 2>&1 || :
            die front-door-failed "the server's front door doesn't start, and has said why above"
        fi
        sleep 0.1
    done
    printf '%s %s\n' "$door" "${its_version%% *}" | put_at_door "$front/runs"
}

# ensure_door: after alone_at_door. The door runs, from the image that is asked for.
ensure_door() {
    keep_acme_root
    [ -z "${door:-}" ] || door_settings | cmp -s - "$front/etc/Caddyfile" || {
        : >"$front/unloaded"
        door_settings | put_at_door "$front/etc/Caddyfile"
    }
    if [ -e "$front/unloaded" ]; then reload=yes; fi
    [ -z "${door_seen:-}" ] || return 0
    found='' spare=''
    # None of a project's, whatever it's called and labelled.
    while read -r its_name its_state its_image; do
        case $its_name in
        "-$front_container") found="$its_state $its_image" ;;
        "-$front_container-next") spare="$its_state $its_image" ;;
        esac
    done <<END
$(docker ps -a --filter "name=^$front_container" --format '{{.Label "com.docker.compose.project"}}-{{.Names}} {{.State}} {{.Label "slipway.front-door"}}')
END
    # Of an upgrade whose script was killed, the newer one may be alone with the requests.
    case $spare in
    '') ;;
    "running ${door:-"${spare#running }"}")
        if [ -n "$found" ]; then end_door "$front_container"; fi
        docker rename "$front_container-next" "$front_container"
        found=$spare
        ;;
    *) docker rm -f "$front_container-next" >/dev/null ;;
    esac
    case $found in
    'running '*) if is_deaf; then found="restarting ${found#running }"; fi ;;
    esac
    case $found in
    "running ${door:-"${found#running }"}") ;;
    'running '*)
        run_door "$front_container-next"
        end_door "$front_container"
        docker rename "$front_container-next" "$front_container"
        tell front_door upgraded
        loaded_anew
        ;;
    'restarting '*)
        # Docker goes on trying: whatever is in its way may go.
        docker logs --tail 5 "$front_container" >&2 || :
        die front-door-failed "the server's front door ends whenever it's started, and has said why above"
        ;;
    *)
        if [ -z "${door:-}" ]; then
            docker start "$front_container" >/dev/null ||
                die front-door-failed "the server's front door isn't there any more: the next deployment installs it"
        else
            if [ -n "$found" ]; then docker rm -f "$front_container" >/dev/null; fi
            run_door "$front_container"
        fi
        tell front_door started
        loaded_anew
        ;;
    esac
    tidy_runs
    door_seen=yes
}

# is_deaf: whether nobody listens on a port that the door had been given; for three seconds, since it may just have been
# started.
is_deaf() {
    [ ! -e "$front/unloaded" ] || return 1
    its_port=$(sed -n 's|^http://:\([0-9]*\) {$|\1|p' "$front"/etc/sites/*.caddy 2>/dev/null | head -n 1)
    [ -n "$its_port" ] || return 1
    tries=0
    while [ -z "$(ss -Hltn "sport = :$its_port")" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 30 ] || return 0
        sleep 0.1
    done
    return 1
}

# loaded_anew: a door that was just started has read all that is written.
loaded_anew() {
    reload=
    rm -f "$front/unloaded"
}

# tidy_runs: of the doors that there were, no directory is left.
tidy_runs() {
    set -- "$front"/run/*
    [ $# -gt 1 ] || return 0
    place=$(docker inspect --format '{{range .Mounts}}{{if eq .Destination "/run/front-door"}}{{.Source}}{{end}}{{end}}' "$front_container")
    for its_file in "$@"; do
        if [ "$its_file" != "$place" ]; then rm -rf "$its_file"; fi
    done
}

# end_door NAME: a door ends what it has begun, and goes. It's all projects' requests, and all projects wait meanwhile.
end_door() {
    its_time=${drain:-30}
    if [ "$its_time" -lt 5 ]; then its_time=5; elif [ "$its_time" -gt 60 ]; then its_time=60; fi
    docker stop -t "$its_time" "$1" >/dev/null && docker rm -f "$1" >/dev/null
}

# load_door [--force]: what is written down is what the door does from here on; whoever writes it notes before that it's
# unloaded, so that it isn't forgotten when a script is killed. Of others' connections those end that are idle, or
# haven't asked for anything yet: it's done where a port or a domain comes or goes, and never for a switch.
load_door() {
    docker exec "$front_container" caddy reload --config /etc/caddy/Caddyfile --adapter caddyfile \
        --address unix//run/front-door/admin.sock "$@" >&2 && rm -f "$front/unloaded"
}

# lacks_certificate: after read_doors. Whether the door has none yet for one of the project's domains.
lacks_certificate() {
    for its_domain in $(printf '%s' "$doors" | cut -s -d ' ' -f 5-); do
        set -- "$front"/data/certificates/*/"$its_domain/$its_domain.crt"
        if [ ! -e "$1" ]; then return 0; fi
    done
    return 1
}

# fetch_door: has the door's image there, without a credential; others needn't wait for what a pull takes.
fetch_door() {
    read_doors
    if [ -n "$doors" ] && [ -n "${door:-}" ] && ! grep -qsF "$door " "$front/runs"; then
        docker image inspect "$door" >/dev/null 2>&1 || docker pull -q "$door" >/dev/null || :
    fi
}

# ready_door: before anything is touched. Where the project is to be behind the door, that is there.
ready_door() {
    fetch_door
    [ -n "$doors" ] || return 0
    take_slots
    alone_at_door
    reload=
    ensure_door
    if [ -n "$reload" ]; then load_door || die front-door-failed "the server's front door doesn't take its settings, and has said why above"; fi
    leave_door
}

# is_open: after ready_door. Whether the door has all that the project is to have there: then nobody is waited for.
is_open() {
    [ -n "${door_seen:-}" ] && [ ! -e "$front/unloaded" ] && site | cmp -s - "$front/etc/sites/$slug.caddy" && ! lacks_certificate
}

# open_door: after read_doors and take_slots. The project's ports are the door's from here on.
open_door() {
    if ! is_open; then load_site; fi
    # What serves has been decided: a full disk mustn't undo it.
    (drop_former && write_slots) || echo "warning: what the project's slots are couldn't be written down" >&2
}

load_site() {
    alone_at_door
    reload='' changed=''
    ensure_door
    file=$front/etc/sites/$slug.caddy
    if ! site | cmp -s - "$file"; then
        : >"$front/unloaded"
        if [ -f "$file" ]; then cp "$file" "$front/former"; else : >"$front/former"; fi
        site | put_at_door "$file"
        reload=yes changed=yes
    fi
    # After a refusal, the door waits longer each time before it asks the authority again. Whoever deploys has mended something.
    if lacks_certificate; then set -- --force; fi
    if [ -n "$reload$*" ] && ! load_door "$@"; then
        if [ -z "$changed" ]; then :; elif [ -s "$front/former" ]; then mv -fT "$front/former" "$file"; else rm -f "$file"; fi
        die front-door-failed "the server's front door doesn't take the project's ports, and has said why above"
    fi
    leave_door
}

# close_door: the project has nothing at the door any more. With the last project's, the door goes.
close_door() {
    [ -e "$front/etc/sites/$slug.caddy" ] || [ -e "$front/slots/$slug" ] || [ -e "$front/unloaded" ] || is_idle_door || return 0
    alone_at_door
    : >"$front/unloaded"
    rm -rf "$front/domains/$slug" "$front/etc/sites/$slug.caddy" "$front/routes/$slug" "$front/slots/$slug" "$front/compose/$slug.yml" "$front/put-$slug"
    if is_idle_door; then
        docker rm -f "$front_container" "$front_container-next" >/dev/null 2>&1 || :
        # Certificates stay for whoever comes back.
        for part in "$front"/*; do
            if [ "$part" != "$front/data" ] || [ ! -d "$part/certificates" ]; then rm -rf "$part"; fi
        done
        rmdir "$front" 2>/dev/null || :
    else
        take_back
    fi
    leave_door
    tell front_door closed
}

# is_idle_door: whether there is a door that no project is behind, nor about to be.
is_idle_door() {
    [ -d "$front/run" ] && [ -z "$(find "$front/etc/sites" "$front/slots" -type f -print -quit 2>/dev/null)" ]
}
