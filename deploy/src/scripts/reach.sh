# After project_files.sh. Which way the server has to a host, told where what was asked of it couldn't be had: programs say
# that they didn't get through, and not why.

# tell_reach HOST: tells each address that it has, and whether the server has a route there.
tell_reach() {
    tell asked "$1"
    # Also those of a kind that the server itself has no address of.
    { timeout 10 getent -A ahosts "$1" || timeout 10 getent ahosts "$1" || :; } 2>/dev/null | cut -d ' ' -f 1 | sort -u | while read -r place; do
        if ip route get "$place" >/dev/null 2>&1; then tell routed "$place"; else tell unrouted "$place"; fi
    done || :
}
