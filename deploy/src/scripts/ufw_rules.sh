# Parameters: slug ports?; after project_files.sh, front_door.sh. Our ufw rules: how they are made and removed, and
# how they are told from others'. They are the project's, or while $whose is set that one's.

# allow_port PORT, close_port PORT: our rule of that port comes, or goes.
allow_port() { ufw allow "$1/tcp" comment "slipway:${whose:-$slug}" >&2; }
close_port() { ufw delete allow "$1/tcp" >&2; }

# our_rules ADDED: the ports of our ufw rules, from what ufw says was added: ours carry the comment slipway:<slug>.
our_rules() { printf '%s\n' "$1" | sed -n "s|^ufw allow \([0-9]*\)/tcp comment 'slipway:${whose:-$slug}'\$|\1|p"; }

# rule_of_others ADDED PORT: whether somebody else has a rule of exactly that port. Ufw would give it our comment, or
# turn it round, if one of ours were added. Port 80 may be a project's and the door's: then its rule is the project's.
rule_of_others() {
    printf '%s\n' "$1" | grep -E "^ufw (allow|deny|reject|limit) $2/tcp( |\$)" | grep -qvE " comment 'slipway:(${whose:-$slug}|FRONT-DOOR)'\$"
}

# opened_by_a_project ADDED PORT: whether that is a port of the door that a project's rule has opened already.
opened_by_a_project() { [ -n "${whose:-}" ] && printf '%s\n' "$1" | grep -qE "^ufw allow $2/tcp comment 'slipway:[a-z0-9-]*'\$"; }

# set_rules PORTS: there is a rule for each of these ports, and for no other. Tells which came and went.
set_rules() {
    # Not in a pipe: a ufw that fails must fail this.
    added=$(ufw show added)
    have=$(our_rules "$added")
    for port in $1; do
        case "
$have
" in
        *"
$port
"*) continue ;;
        esac
        if opened_by_a_project "$added" "$port"; then continue; fi
        if rule_of_others "$added" "$port"; then
            tell others "$port"
            continue
        fi
        allow_port "$port"
        tell added "$port"
    done
    for port in $have; do
        case " $1 " in *" $port "*) continue ;; esac
        close_port "$port"
        tell removed "$port"
    done
}

# look_at_domains: after read_doors. Sets $has_domains to the project's domains, if it's to have any from here on.
look_at_domains() {
    has_domains=
    [ -z "$ports" ] || has_domains=$(printf '%s' "$doors" | cut -s -d ' ' -f 5-)
}

# set_door_rules: after lock_ufw and look_at_domains, and after set_rules where the project has no domains. As long as a
# project of the server has domains, 80 and 443 are open, for the certificate authority's questions as well. No slug has
# capital letters.
set_door_rules() {
    if [ -n "$has_domains" ]; then
        mkdir -p "$front/domains"
        : >"$front/domains/$slug"
    else
        rm -f "$front/domains/$slug"
    fi
    wanted=
    if [ -n "$(find "$front/domains" -type f -print -quit 2>/dev/null)" ]; then wanted='80 443'; fi
    whose=FRONT-DOOR
    # Most servers have no domains: nothing is asked twice for them.
    if [ -n "$wanted" ] || [ -n "$(our_rules "$added")" ]; then set_rules "$wanted"; fi
    whose=
}

# open_for_authority: after read_doors. Before the door has the domains: the authority asks it at once.
open_for_authority() {
    look_at_domains
    [ -n "$has_domains" ] && command -v ufw >/dev/null 2>&1 || return 0
    (
        lock_ufw
        set_door_rules
    ) 9>&-
}

# restore_rules: after restore_files. The rules are those of the release before, which may have had other ports and domains.
restore_rules() {
    command -v ufw >/dev/null 2>&1 && [ -f "$override" ] || return 0
    ports=$(sed -nE 's/^      - "(127\.0\.0\.1:)?([0-9]+):[0-9]+"$/\2/p' "$override" | tr '\n' ' ')
    (
        lock_ufw
        set_rules "$ports"
        [ -n "${doors_known:-}" ] || read_doors
        look_at_domains
        set_door_rules
    ) 9>&-
}

# look_at_rules: tells how ufw is, and for which ports a rule would come or go, without a change.
look_at_rules() {
    if ! command -v ufw >/dev/null 2>&1; then
        tell ufw absent
        return
    fi
    status=$(ufw status)
    added=$(ufw show added)
    have=" $(our_rules "$added" | tr '\n' ' ')"
    for port in $ports; do
        case $have in *" $port "*) continue ;; esac
        if rule_of_others "$added" "$port"; then tell others "$port"; else tell rule_differs "$port"; fi
    done
    for port in $have; do
        case " $ports " in *" $port "*) ;; *) tell rule_differs "$port" ;; esac
    done
    look_at_domains
    if [ -z "$has_domains" ] && [ -e "$front/domains/$slug" ]; then tell rule_differs 443; fi
    tell ufw "$(printf '%s\n' "$status" | sed -n 's/^Status: //p')"
}

# lock_ufw: alone with ufw until this script's end. It reads its rules before it takes its own lock, so that of two projects
# at once one loses the rule that the other has added.
lock_ufw() {
    exec 8>>/run/slipway-ufw.lock
    flock -w 60 8 || die firewall-failed "ufw has been in use by another project's command for a minute"
}
