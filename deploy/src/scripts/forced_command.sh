# After project_files.sh, take_files.sh. What the client asks for is in SSH_ORIGINAL_COMMAND or comes over stdin. It is
# compared with what CI's jobs send, and never run: the job of either template generation is let in, the steps with which
# it copies files before that are answered without effect, and everything else is refused.
die() {
    printf 'slipway: %s (%s)\n' "$2" "$1" >&2
    exit 1
}
asked=${SSH_ORIGINAL_COMMAND:-}
# It may hold the job's secrets: no child needs them.
unset SSH_ORIGINAL_COMMAND

deploys() {
    case $asked in
    *docker[\ -]compose*pull* | *docker[\ -]compose*up*) return 0 ;;
    esac
    return 1
}

# A shell is asked for: the script is what comes over stdin.
case $asked in
'' | sh | bash | 'sh -'* | 'bash -'*) deploys || asked=$(timeout 10 head -c 65536) ;;
esac
if ! deploys; then
    case $asked in
    *[\;\&\|\$\`\<\>\(\)]* | *'
'*) ;;
    'scp '*' -t '* | 'scp -t '* | 'scp -tr '*)
        take_scp
        exit 0
        ;;
    # For the subsystem sftp, sshd names the program that its configuration has for it.
    internal-sftp | 'internal-sftp '* | sftp-server | */sftp-server | */'sftp-server '*)
        take_sftp
        exit 0
        ;;
    # A word on stderr would fail the copying step here.
    'rm -rf '*.tar | 'rm -rf '*.tar.gz | "rm -rf '"*".tar'" | "rm -rf '"*".tar.gz'") exit 0 ;;
    'mkdir -p '*)
        folder=${asked#mkdir -p }
        case $folder in
        "'"*"'")
            folder=${folder#?}
            folder=${folder%?}
            ;;
        esac
        if ours "$folder"; then exit 0; fi
        ;;
    'tar '*" -C $dir" | 'tar '*" -C '$dir'")
        echo "slipway: the files that were copied aren't used: Slipway deploys the project's files with its commits"
        exit 0
        ;;
    esac
    die refused "this key can do one thing, run CI's job, which pulls this project's images and restarts it"
fi
unset asked
exec </dev/null
