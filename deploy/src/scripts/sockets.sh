# Which sockets a container's programs hold, and what they answer. For a published port Docker listens, whatever becomes
# of the program: what counts is what is heard inside the container's own network.

# listens_inside PID PORT: whether a program beside that process listens on that port, and not only on a loopback.
listens_inside() {
    # Local address, remote address, state; 0A listens. The addresses are in the machine's own order of bytes.
    local='(0100007F|00000000000000000000000001000000|0000000000000000FFFF00000100007F)'
    cat "/proc/$1/net/tcp" "/proc/$1/net/tcp6" 2>/dev/null | sed -E 's/^ *[0-9]+: //' |
        grep -E "^[0-9A-F]+:$(printf '%04X' "$2") [0-9A-F]+:0000 0A " | grep -vqE "^$local:"
}

# ask ADDRESS PORT HOST PATH: the status of the answer over HTTP, `mute` where a connection gives none in five seconds,
# nothing where there is no connection. The shell's own sockets: a server needn't have curl.
ask() {
    heard=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1" && echo connected &&
        printf "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" "$3" "$2" >&3 && head -c 64 <&3' "$@" \
        2>/dev/null | tr -d '\0' || :)
    case $heard in
    connected?HTTP/*)
        heard=${heard#*HTTP/}
        heard=${heard#* }
        case $heard in [1-5][0-9][0-9]*) printf '%s\n' "${heard%"${heard#???}"}" ;; esac
        ;;
    connected*) echo mute ;;
    esac
}
