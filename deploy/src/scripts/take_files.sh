# Parameters: root slug; after project_files.sh. Takes the files that CI's job copies before it deploys, and keeps none:
# they come with commits. No file of the server is read, written or looked for.

# ours PATH: whether that is the project's directory or below it, by its name alone.
ours() {
    case $1/ in
    *[!A-Za-z0-9._/-]* | */../*) return 1 ;;
    "$dir"/* | "/opt/services/$slug"/*) return 0 ;;
    esac
    return 1
}

# take_scp: the receiving end of scp's own protocol.
take_scp() {
    printf '\0'
    while IFS= read -r line; do
        case $line in
        C[0-7]*' '[0-9]*' '*)
            size=${line#* }
            size=${size%% *}
            case $size in *[!0-9]*) die refused "this isn't scp" ;; esac
            printf '\0'
            head -c "$((size + 1))" >/dev/null
            ;;
        [DTE]*) ;;
        *) die refused "this isn't scp" ;;
        esac
        printf '\0'
    done
}

# take_sftp: a server of SFTP version 3 to which every name in the project's directory is a directory that takes files.
# Whatever would read, list, rename or remove something is denied.
take_sftp() {
    packets=0
    while :; do
        # Its length, its type and a number that the answer repeats.
        set -- $(numbers 9)
        [ $# -eq 9 ] || return 0
        left=$(($1 * 16777216 + $2 * 65536 + $3 * 256 + $4 - 5))
        id=$(octets $(($6 * 16777216 + $7 * 65536 + $8 * 256 + $9)))
        packets=$((packets + 1))
        if [ "$left" -lt 0 ] || [ "$left" -gt 262144 ] || [ "$packets" -gt 4096 ]; then die refused "this isn't SFTP"; fi
        case $5 in
        1) # INIT
            skip
            printf '\0\0\0\5\2\0\0\0\3'
            ;;
        4 | 6 | 10) # CLOSE, WRITE, FSETSTAT
            skip
            answer 0
            ;;
        3) # OPEN: to write and not to read.
            take_path
            flags=$(numbers 4 | tr -cd '0-9 ')
            left=$((left - 4))
            skip
            if ours "$path" && [ $((${flags##* } & 3)) -eq 2 ]; then
                printf '\0\0\0\12\146%b\0\0\0\1f' "$id"
            else
                answer 3
            fi
            ;;
        7 | 17) # LSTAT, STAT: a directory, 0755.
            take_path
            skip
            if ours "$path"; then printf '\0\0\0\15\151%b\0\0\0\4\0\0\101\355' "$id"; else answer 3; fi
            ;;
        9 | 14) # SETSTAT, MKDIR
            take_path
            skip
            if ours "$path"; then answer 0; else answer 3; fi
            ;;
        16) # REALPATH
            take_path
            skip
            if ours "$path"; then
                size=$(octets ${#path})
                printf '%b\150%b\0\0\0\1%b%s%b%s\0\0\0\0' \
                    "$(octets $((21 + 2 * ${#path})))" "$id" "$size" "$path" "$size" "$path"
            else
                answer 3
            fi
            ;;
        *)
            skip
            answer 3
            ;;
        esac
    done
}

# numbers COUNT: that many bytes of what comes, as numbers.
numbers() { head -c "$1" | od -An -v -tu1; }

# octets NUMBER: its four bytes, for printf's %b.
octets() { printf '\\0%03o\\0%03o\\0%03o\\0%03o' $(($1 >> 24 & 255)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)); }

# skip: what is left of the packet goes nowhere.
skip() { head -c "$left" >/dev/null; }

# take_path: sets $path.
take_path() {
    set -- $(numbers 4)
    [ $# -eq 4 ] || die refused "this isn't SFTP"
    size=$(($1 * 16777216 + $2 * 65536 + $3 * 256 + $4))
    left=$((left - 4 - size))
    if [ "$left" -lt 0 ]; then die refused "this isn't SFTP"; fi
    # A byte that no path of ours has stands for those that a shell can't hold.
    path=$(head -c "$size" | tr '\0\n' '??')
}

# answer CODE: 0 is done, 3 denied.
answer() { printf '\0\0\0\21\145%b%b\0\0\0\0\0\0\0\0' "$id" "$(octets "$1")"; }
