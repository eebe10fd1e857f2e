# Parameters: root slug; after project_files.sh. The front door of the server: one reverse proxy on the host's network that
# alone listens on the ports of web services, and passes on to one of the two loopback ports, slot a and slot b, that each
# of them has. Which one serves is said by empty files that the proxy looks for at each request: nothing is loaded anew for
# a switch, and it's one step.
front=$root/.slipway-front-door
front_container=slipway-front-door

# read_doors: sets $doors to the services of $override that are behind the door, a line each: service, port on the server,
# port in the container, how a new release takes over (overlap or stop-first), domains.
read_doors() {
    doors=
    [ -f "$override" ] || return 0
    its_name='' its_way='' its_domains=''
    while IFS= read -r line; do
        case $line in
        '  '[!\ ]*:) its_name=${line#  } its_name=${its_name%:} its_way='' its_domains='' ;;
        '    # front door: '*) its_way=${line#*: } ;;
        '    # domains: '*) its_domains=" ${line#*: }" ;;
        '      - "127.0.0.1:'*)
            [ -n "$its_way" ] || continue
            line=${line#*127.0.0.1:}
            line=${line%\"}
            doors="$doors$its_name ${line%%:*} ${line#*:} $its_way$its_domains
"
            its_way=
            ;;
        esac
    done <"$override"
}

# slots_of PORT: sets $slot_a and $slot_b.
slots_of() {
    slot_a='' slot_b=''
    [ -f "$front/slots/$slug" ] || return 0
    while read -r kept_port kept_a kept_b; do
        if [ "$kept_port" = "$1" ]; then slot_a=$kept_a slot_b=$kept_b; fi
    done <"$front/slots/$slug"
}

# serving PORT: sets $slot_a and $slot_b, and $served_by to the one that the door passes that port's requests on to, if any. The
# files are named after both: for another pair, even of the same port, the door hasn't been told to look yet.
serving() {
    slots_of "$1"
    served_by=
    if [ -e "$front/routes/$slug/$slot_a-$slot_b.b" ]; then
        served_by=b
    elif [ -e "$front/routes/$slug/$slot_a-$slot_b.a" ]; then
        served_by=a
    fi
}

# slot_of SERVICE PORT: sets $slot to where the container of that service is to publish: the slot that serves, or the other
# one while it's among those that $next names.
slot_of() {
    serving "$2"
    case " ${next:-} " in
    *" $1 "*) if [ "$served_by" = a ]; then slot=$slot_b; else slot=$slot_a; fi ;;
    *) if [ "$served_by" = b ]; then slot=$slot_b; else slot=$slot_a; fi ;;
    esac
}

# slot_edits: sets $edits to a program for sed that puts the slots into the place of the ports in the model.
slot_edits() {
    edits=
    read_doors
    while read -r its_service its_public _; do
        [ -n "$its_service" ] || continue
        slot_of "$its_service" "$its_public"
        [ -z "$slot" ] ||
            edits="$edits/\"host_ip\": \"127.0.0.1\"/,/}/s/\"published\": \"$its_public\"/\"published\": \"$slot\"/
"
    done <<END
$doors
END
}

# alone_at_door: from here on alone with what all projects of the server share of it, until leave_door.
alone_at_door() {
    # Not in a directory that goes with the last project.
    if [ -w /run ]; then exec 7>>/run/slipway-front-door.lock; else exec 7>>"$root/.slipway-front-door.lock"; fi
    flock -w 120 7 || die front-door-failed "another project's command has been at the server's front door for two minutes"
    mkdir -p "$front/slots" "$front/routes/$slug" "$front/etc/sites" "$front/data" "$front/run" "$front/compose"
    chmod 711 "$front"
    chmod 755 "$front/compose"
}
leave_door() { exec 7>&-; }

# put_at_door FILE: as put, beside others' files.
put_at_door() {
    cat >"$front/put-$slug" && sync "$front/put-$slug" && mv -fT "$front/put-$slug" "$1"
}

# write_slots: after read_doors. What somebody who starts compose by hand needs so that nothing changes.
write_slots() {
    {
        printf '# Written by Slipway at every switch; changes are lost.\nservices:\n'
        while read -r its_service its_public its_inner _; do
            [ -n "$its_service" ] || continue
            slot_of "$its_service" "$its_public"
            printf '  %s:\n    ports: !override\n      - "127.0.0.1:%s:%s"\n' "$its_service" "$slot" "$its_inner"
        done <<END
$doors
END
    } | put_at_door "$front/compose/$slug.yml"
    chmod 644 "$front/compose/$slug.yml"
}

# route PORT SLOT: from here on the door passes requests on to slot a or b. One step each time, whichever served.
route() {
    slots_of "$1"
    route_pair "$slot_a-$slot_b" "$2"
}
route_pair() {
    if [ "$2" = b ]; then
        : >"$front/routes/$slug/$1.b"
        : >>"$front/routes/$slug/$1.a"
    else
        : >>"$front/routes/$slug/$1.a"
        rm -f "$front/routes/$slug/$1.b"
    fi
    sync "$front/routes/$slug"
}

# tell_doors: after read_doors. Tells which ports are the door's, as if Docker itself published them.
tell_doors() {
    while read -r its_service its_public its_inner _ its_domains; do
        [ -n "$its_service" ] || continue
        serving "$its_public"
        [ -n "$served_by" ] || continue
        for its_public in "$its_public" ${its_domains:+80 443}; do
            tell published "$its_service $its_inner/tcp 0.0.0.0 $its_public"
        done
    done <<END
$doors
END
}

# is_door PORT: after read_doors. Whether that's a port of one of the project's services behind the door.
is_door() {
    while read -r _ known_port _; do [ "$known_port" != "$1" ] || return 0; done <<END
$doors
END
    return 1
}

# as_published: puts the port of the server in the place of the slot that serves, in $line, and nothing in that of the other.
as_published() {
    [ -f "$front/slots/$slug" ] || return 0
    while read -r its_port its_a its_b; do
        serving "$its_port"
        for its_slot in a b; do
            if [ "$its_slot" = a ]; then its_place=$its_a; else its_place=$its_b; fi
            case $line in *"\"$its_place\","*) ;; *) continue ;; esac
            if [ "$its_slot" = "${served_by:-a}" ]; then its_public="\"$its_port\","; else its_public=; fi
            line=${line%%"\"$its_place\","*}$its_public${line#*"\"$its_place\","}
        done
    done <"$front/slots/$slug"
}

# tell_door: tells what the door is like, whom it serves, and until when its certificates are good; nothing where there is none.
tell_door() {
    [ -s "$front/runs" ] || return 0
    read -r its_line <"$front/runs"
    its_domains=' '
    for its_file in "$front"/etc/sites/*.caddy; do
        [ -f "$its_file" ] || return 0
        its_name=${its_file##*/}
        tell door_project "${its_name%.caddy}"
        while IFS= read -r line; do
            case $line in [0-9a-z]*' {') its_domains="$its_domains${line% \{}, " ;; esac
        done <"$its_file"
    done
    tell door "$its_line"
    command -v openssl >/dev/null 2>&1 || return 0
    for its_file in "$front"/data/certificates/*/*/*.crt; do
        its_name=${its_file##*/}
        its_name=${its_name%.crt}
        case $its_domains in *" $its_name, "*) ;; *) continue ;; esac
        if its_line=$(openssl x509 -noout -enddate -in "$its_file" 2>/dev/null); then
            tell door_certificate "$its_name ${its_line#*=}"
        fi
    done
}
