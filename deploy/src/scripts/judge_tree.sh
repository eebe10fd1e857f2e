# Parameters: max_bytes max_files; after project_files.sh, git.sh. Whether a commit may be checked out.

# judge_tree COMMIT: `ok BYTES FILES`, or a code and the reason why it may not. Paths are compared as git has them, ended by
# NUL and not quoted, and each folder is an entry of its own: what lies below `.env` is seen by its folder. It ends at the
# first finding: a few objects can make more paths than anybody will ever read.
judge_tree() {
    {
        repo_git ls-tree -r -t -l -z --full-tree "$1" && printf 'end\0'
    } | tr '\n\0' '\001\n' | awk -v "max_bytes=$max_bytes" -v "max_files=$max_files" '
        function refuse(code, why) {
            print code, why
            done = 1
            exit
        }
        function shown(name) {
            gsub(/[\001-\037\177]/, "?", name)
            return substr(name, 1, 200)
        }
        # As a file system may take it that knows no capitals, or leaves characters out.
        function folded(name) {
            name = tolower(name)
            gsub(/\305\277/, "s", name)
            gsub(/\342\200[\213-\217\252-\256]/, "", name)
            gsub(/\342\201[\240-\257]/, "", name)
            gsub(/\357\273\277/, "", name)
            sub(/[ .]+$/, "", name)
            return name
        }
        $0 == "end" {
            complete = 1
            next
        }
        {
            tab = index($0, "\t")
            path = substr($0, tab + 1)
            split(substr($0, 1, tab - 1), field, / +/)
            mode = field[1]
            # As much as a file system takes for it.
            bytes += 4096 * int((field[4] + 4095) / 4096 + (field[4] + 0 == 0))
            if (++files > max_files) refuse("repository-too-large", "the commit has more than " max_files " files and folders")
            if (bytes > max_bytes) {
                refuse("repository-too-large", sprintf("the files of the commit take more than %d MiB", max_bytes / 1048576))
            }
            if (mode == "160000") refuse("unsupported-repository", "the repository has submodules")
            if (length(path) > 3800) {
                refuse("unsupported-repository", "the path " shown(path) "... is longer than a server can have")
            }
            depth = split(path, part, "/")
            name = part[depth]
            if (length(name) > 255) {
                refuse("unsupported-repository", "the name " shown(name) "... is longer than a server can have")
            }
            name = folded(name)
            if (name == ".git" || name == "git~1" || (name == ".gitmodules" && mode == "120000")) {
                refuse("unsupported-repository", "the repository has " shown(path) ", which git itself refuses")
            }
            if (depth > 2) next
            where = depth == 2 ? folded(part[1]) "/" name : name
            if (where == ".env" || where == "infra/.env" || where == "infra/.env.prod") {
                refuse("env-file-tracked", "the repository tracks " shown(path))
            }
            if (where == ".slipway" || where == "infra/compose.slipway.yml" || (where == "infra" && mode != "040000")) {
                refuse("unsupported-repository", "the repository has " shown(path) ", a name that the deployment needs for itself")
            }
            if ((where == "infra/compose.base.yml" || where == "infra/compose.prod.yml") && mode == "120000") {
                refuse("unsupported-repository", shown(path) " is a symbolic link, and must be a file")
            }
        }
        END {
            if (done) exit
            if (!complete) print "unsupported-repository", "git cannot list the files of the commit: they may be nested too deeply"
            else printf "ok %.0f %d\n", bytes, files
        }'
}
