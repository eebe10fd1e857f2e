# After project_files.sh, front_door.sh, containers.sh. Which slots a project's services have, two each, that nobody else
# listens on; and how it gives back what it has at the door.

# take_slots: after read_doors. Each service behind the door has two ports of its own, from 30000 on, that nobody listens on.
# What the release that serves has, its own ports may be others, stays until another one has taken over.
take_slots() {
    alone_at_door
    lines=
    while read -r its_service its_public _; do
        [ -n "$its_public" ] || continue
        slots_of "$its_public"
        if [ -z "$slot_a" ] || is_of_another "$its_service"; then new_slots; else leave_strangers "$its_service" "$its_public"; fi
        lines="$lines$its_public $slot_a $slot_b
"
    done <<END
$doors
END
    while read -r its_port its_rest; do
        if [ -z "$its_port" ] || is_door "$its_port"; then continue; fi
        lines="$lines$its_port $its_rest
"
    done <<END
$(cat "$front/slots/$slug" 2>/dev/null)
END
    write_lines
    write_slots
    leave_door
}

# write_lines: $lines are the project's slots from here on.
write_lines() {
    lines=${lines%
}
    if [ "$lines" != "$(cat "$front/slots/$slug" 2>/dev/null)" ]; then printf '%s\n' "$lines" | put_at_door "$front/slots/$slug"; fi
}

# drop_former: after read_doors. The slots and routes go of ports that the project had before.
drop_former() {
    lines='' keys=' '
    while read -r its_port its_a its_b; do
        if is_door "$its_port"; then
            keys="$keys$its_a-$its_b "
            lines="$lines$its_port $its_a $its_b
"
        fi
    done <"$front/slots/$slug"
    write_lines
    for its_file in "$front/routes/$slug"/*; do
        its_key=${its_file##*/}
        case $keys in *" ${its_key%.*} "*) ;; *) rm -f "$its_file" ;; esac
    done
}

# new_slots: sets $slot_a and $slot_b to two that nobody has.
new_slots() {
    taken=" $(cat "$front"/slots/* 2>/dev/null | tr '\n' ' ')$(printf '%s' "$lines" | tr '\n' ' ') "
    slot_a=30000
    while :; do
        slot_b=$((slot_a + 1))
        case $taken in
        *" $slot_a "* | *" $slot_b "*) ;;
        *) if [ -z "$(ss -Hltn "( sport = :$slot_a or sport = :$slot_b )")" ]; then return; fi ;;
        esac
        slot_a=$((slot_a + 2))
        [ "$slot_a" -lt 32768 ] || die front-door-failed "no two ports from 30000 to 32767 are free on this server"
    done
}

# is_of_another SERVICE: after slots_of. Whether one of the slots is another service's, whose port that was until now.
is_of_another() {
    its_owner=$(sed -n "/^  [^ ]/h;/127[.]0[.]0[.]1:\($slot_a\|$slot_b\):/{g;p}" "$front/compose/$slug.yml" 2>/dev/null)
    case $its_owner in '' | "  $1:") return 1 ;; esac
}

# leave_strangers SERVICE PORT: after see and slots_of. A slot is another one where by now somebody else listens on it; sets
# $moved_slots where it was the one of a stopped container.
leave_strangers() {
    heard=$(ss -Hltn "( sport = :$slot_a or sport = :$slot_b )")
    [ -n "$heard" ] || return 0
    running_of "$1"
    # Nothing of ours listens: whoever does is a stranger.
    if [ -z "$ids" ]; then
        moved_slots=yes
        new_slots
        return
    fi
    serving "$2"
    if [ "$served_by" = a ]; then its_place=$slot_b; else its_place=$slot_a; fi
    case $heard in *":$its_place "*) ;; *) return 0 ;; esac
    [ -z "$(project_ps -q --filter "publish=$its_place/tcp")" ] || return 0
    set -- "$slot_a" "$slot_b"
    new_slots
    case $served_by in a) slot_a=$1 ;; b) slot_b=$2 ;; *) return 0 ;; esac
    route_pair "$slot_a-$slot_b" "$served_by"
}

# give_back [SERVICES]: ports that these services, or any, are to publish themselves from here on aren't the door's any more.
give_back() {
    file=$front/etc/sites/$slug.caddy back=
    [ -f "$file" ] || return 0
    while read -r its_name its_port; do
        case " ${*:-$its_name} " in
        *" $its_name "*) if grep -qxF "http://:$its_port {" "$file"; then back="$back$its_port "; fi ;;
        esac
    done <<END
$(sed -n '/^  [^ #]/h;/^      - "[0-9]*:/{G;s/.*"\([0-9]*\):.*\n  \([^:]*\):.*/\2 \1/p}' "$override")
END
    [ -n "$back" ] || return 0
    alone_at_door
    : >"$front/unloaded"
    for its_port in $back; do
        awk -v it="$slug-$its_port" '
            { block = block $0 "\n" }
            $0 == "(" it ") {" || $0 == "\timport " it { drop = 1 }
            $0 == "}" { if (!drop) printf "%s", block; block = ""; drop = 0 }
        ' "$file" | put_at_door "$file"
    done
    take_back
}

# leave_domains: after read_doors. What has failed for good, and nothing served before, holds no domain that others may want.
leave_domains() {
    [ -e "$front/etc/sites/$slug.caddy" ] && [ -n "$(printf '%s' "$doors" | cut -s -d ' ' -f 5-)" ] || return 0
    doors=$(printf '%s\n' "$doors" | cut -d ' ' -f 1-4)
    alone_at_door
    : >"$front/unloaded"
    site | put_at_door "$front/etc/sites/$slug.caddy"
    take_back
}

# leave_site: while the project is stopped, its ports aren't the door's: somebody else may get what was its slot.
leave_site() {
    [ -e "$front/etc/sites/$slug.caddy" ] || return 0
    alone_at_door
    : >"$front/unloaded"
    rm -f "$front/etc/sites/$slug.caddy"
    take_back
}

# take_back: after alone_at_door. What the project doesn't have at the door any more isn't the door's.
take_back() {
    load_door || [ "$(docker inspect --format '{{.State.Running}}' "$front_container" 2>/dev/null)" != true ] ||
        die front-door-failed "the server's front door doesn't give the project's ports back, and has said why above"
    leave_door
}
