# Parameters: slug ports?. Our ufw rules: how they are made and removed, and how they are told from others'.

# allow_port PORT, close_port PORT: our rule of that port comes, or goes.
allow_port() { ufw allow "$1/tcp" comment "slipway:$slug" >&2; }
close_port() { ufw delete allow "$1/tcp" >&2; }

# our_rules ADDED: the ports of our ufw rules, from what ufw says was added: ours carry the comment slipway:<slug>.
our_rules() { printf '%s\n' "$1" | sed -n "s|^ufw allow \([0-9]*\)/tcp comment 'slipway:$slug'\$|\1|p"; }

# rule_of_others ADDED PORT: whether somebody else has a rule of exactly that port. Ufw would give it our comment, or
# turn it round, if one of ours were added.
rule_of_others() {
    printf '%s\n' "$1" | grep -E "^ufw (allow|deny|reject|limit) $2/tcp( |\$)" | grep -qv " comment 'slipway:$slug'\$"
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
    tell ufw "$(printf '%s\n' "$status" | sed -n 's/^Status: //p')"
}

# lock_ufw: alone with ufw until this script's end. It reads its rules before it takes its own lock, so that of two projects
# at once one loses the rule that the other has added.
lock_ufw() {
    exec 8>>/run/slipway-ufw.lock
    flock -w 60 8 || die firewall-failed "ufw has been in use by another project's command for a minute"
}
