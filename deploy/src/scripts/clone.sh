# Parameters: commit url token max_bytes max_files recorded by_commit asks_docker; after project_files.sh, room.sh,
# front_door.sh, compose_call.sh, containers.sh, lock.sh, git.sh, workflows.sh, proofs.sh, judged.sh, own_view.sh,
# env_view.sh, save_release.sh, judge_tree.sh, reach.sh. The token is known to this shell and to the git processes that ask
# for it over a pipe: not in argv, the environment, a URL or a file.
umask 022
[ ! -L "$dir" ] || die checkout-failed "$dir is a symbolic link"
[ -d "$dir" ] || mkdir -p "$dir"
enter
# What an undeployment that was killed has left holds secrets.
if [ -e "$root/.slipway-gone.$slug" ]; then rm -rf "$root/.slipway-gone.$slug"; fi
if [ -f "$kept/env" ]; then
    [ -f .env ] || put .env 600 <"$kept/env"
    rm -f "$kept/env"
fi

# checked_out CHANGE: tells that the stage is done, and goes on with what stages secrets and env want to know of the commit:
# that changes nothing, and needn't be waited for once more. Whatever becomes of it, the stage is done.
checked_out() {
    tell change "$1"
    tell cloned yes
    tell_workflows
    tell workflows all
    umask 077
    mark env
    tell_env
    exit 0
}

head=$(repo_git rev-parse -q --verify HEAD 2>/dev/null || cat .slipway/commit 2>/dev/null || :)

# A failure restores it. Empty: there was none. Beside it, objects may come.
save_release "$head" deployment &
saving=$!
await_saving() {
    if [ -z "$saving" ]; then return 0; fi
    its_id=$saving saving=
    wait "$its_id"
}

# A git that was killed, or a server that lost its power, may have left what isn't a sound repository.
if ! repo_git fsck --connectivity-only --no-dangling --no-progress >/dev/null 2>&1; then
    if [ -d .git ]; then echo "warning: $dir/.git was damaged and is made anew" >&2; fi
    rm -rf .git
    GIT_DEFAULT_HASH=sha1 GIT_DEFAULT_REF_FORMAT=files repo_git init -q --template=
fi

if [ "$head" = "$commit" ]; then
    await_saving
    repo_git update-index -q --refresh >/dev/null 2>&1 || :
    # Before the look: what is changed after it is newer.
    mark clone
    if repo_git diff-index --quiet HEAD --; then checked_out unchanged; fi
fi
[ -z "$head" ] || tell previous "$head"

if [ -n "$(repo_git config remote.origin.url || :)" ]; then repo_git config remote.origin.url "$url"; fi

# What others on this server can't do without stays free, whatever the repository brings.
read -r free_kb free_inodes <<END
$(df -k --output=avail,iavail . | tail -n 1)
END
kept_kb=$((free_kb / 4))
if [ "$kept_kb" -gt 262144 ]; then kept_kb=262144; fi
spare=$(((free_kb - kept_kb) * 1024))
pack_bytes=$max_bytes
if [ "$spare" -lt "$pack_bytes" ]; then pack_bytes=$spare; fi
# A few bytes can unpack to any size: git gets half of the memory at most.
while read -r name git_kb _; do [ "$name" != MemTotal: ] || break; done </proc/meminfo
git_kb=$((git_kb / 2))
if [ "$git_kb" -gt 2097152 ]; then git_kb=2097152; elif [ "$git_kb" -lt 524288 ]; then git_kb=524288; fi

# One pack, and all of it on the disk: half an object would be in the way of every later deployment.
fetch() {
    (
        ulimit -f $((pack_bytes / 512))
        # Every shell that is a server's sh has it.
        # shellcheck disable=SC3045
        ulimit -v "$git_kb"
        git_home=${HOME:-/root} git_alone=0
        printf 'username=x-access-token\npassword=%s\n' "$password" | repo_git -c core.fsync=all -c fetch.unpackLimit=1 \
            -c gc.auto=0 -c pack.threads=1 -c core.bigFileThreshold=64m -c core.packedGitWindowSize=64m \
            -c core.packedGitLimit=256m -c credential.helper= \
            -c 'credential.helper=!f() { if [ "$1" = get ]; then cat <&8; fi; }; f' \
            fetch -q --no-tags --no-recurse-submodules --depth 1 "$url" "$1" 8<&0 </dev/null
    )
}
has() { repo_git cat-file -e "$1^{tree}" 2>/dev/null; }

# collect: of all that was ever fetched, keeps what is checked out and what served.
collect() {
    rm -rf .git/logs .git/FETCH_HEAD
    if ! repo_git rev-parse -q --verify HEAD >/dev/null && ! repo_git rev-parse -q --verify refs/slipway/served >/dev/null; then
        rm -rf .git
    elif ! repo_git -c pack.window=0 -c pack.threads=1 gc -q --prune=now; then
        echo "warning: what earlier commits have left in $dir/.git can't be removed" >&2
    fi
}
# refuse CODE MESSAGE: what was fetched goes again.
refuse() {
    collect
    die "$@"
}

password=$(printf '%s' "$token" | base64 -d)
# A tree that is here may lack its files, where a fetch was killed.
fetched=yes
if [ "$head" != "$commit" ] || ! has "$commit"; then fetch "$commit" || fetched=; fi
await_saving
if [ -z "$fetched" ]; then
    cut=$(find .git/objects -name 'tmp_*' -size +$((pack_bytes / 512 * 512 - 1))c -print -quit)
    find .git/objects -name 'tmp_*' -delete
    if [ -n "$cut" ] && [ "$pack_bytes" -lt "$max_bytes" ]; then
        refuse disk-full "the repository has more than the $((pack_bytes / 1048576)) MiB that it may take of the free disk"
    fi
    [ -z "$cut" ] || refuse repository-too-large "what git sends for the commit is more than $((max_bytes / 1048576)) MiB"
    tell fetch failed
    host=${url#*://}
    host=${host%%/*}
    tell_reach "${host%%:*}"
    exit 4
fi
# Its objects stay, though no branch may know it any more.
if [ -f .slipway/served/commit ]; then
    read -r served <.slipway/served/commit
    if has "$served" || { fetch "$served" && has "$served"; }; then
        repo_git update-ref refs/slipway/served "$served"
    else
        echo "warning: commit $served, whose files were here, can't be fetched again: this deployment can't be taken back" >&2
    fi
fi
unset password

judged=$(judge_tree "$commit")
case $judged in
'ok '*) ;;
*) refuse "${judged%% *}" "${judged#* }" ;;
esac
set -- $judged
[ "$2" -le "$spare" ] || refuse disk-full "the commit's files need $(($2 / 1048576)) MiB of the disk, more than may be taken"
case $free_inodes in
# Some file systems don't count them.
'' | 0 | *[!0-9]*) ;;
*) [ "$(($3 + 5000))" -le "$free_inodes" ] || refuse inodes-exhausted "the commit has $3 files and folders, more than there is room for" ;;
esac
# What counts is a file that isn't itself: patterns may match nothing, and each may be taken back by the next one.
if repo_git grep -qE '^[[:space:]]*[^#[:space:]].*[[:space:]]filter=lfs([[:space:]]|$)' "$commit" -- '*.gitattributes' &&
    repo_git grep -qIE '^version https://git-lfs[.]github[.]com/spec/v1$' "$commit"; then
    refuse unsupported-repository "the repository uses Git LFS"
fi

check_out "$commit" || die checkout-failed "git checkout failed in $dir"
read -r head <.git/HEAD
[ "$head" = "$commit" ] || die checkout-failed "HEAD isn't the commit after the checkout"
# Each deployment leaves a pack: a project that is pushed to all day would fill the disk.
set -- .git/objects/pack/*.pack
read -r objects_kb _ <<END
$(du -sk .git/objects)
END
if [ $# -gt 8 ] || [ "$objects_kb" -gt $((max_bytes / 1024)) ]; then
    collect
    mark clone
    # What was changed meanwhile is older than that mark.
    repo_git update-index -q --refresh >/dev/null 2>&1 || :
    repo_git diff-index --quiet HEAD -- || rm -f .slipway/at_clone
else
    mark clone
fi
checked_out changed
