# Parameters: commit url token; after project_files.sh, room.sh, containers.sh, lock.sh, git.sh, save_release.sh. The
# token is known to this shell and to the git processes that ask for it over a pipe: not in argv, the environment, a
# URL or a file.
umask 022
[ ! -L "$dir" ] || die checkout-failed "$dir is a symbolic link"
mkdir -p "$dir"
enter
# What an undeployment that was killed has left holds secrets.
rm -rf "$root/.slipway-gone.$slug"
if [ -f "$kept/env" ]; then
    [ -f .env ] || put .env 600 <"$kept/env"
    rm -f "$kept/env"
fi

head=$(repo_git rev-parse -q --verify HEAD 2>/dev/null || cat .slipway/commit 2>/dev/null || :)

# A failure restores it. Empty: there was none.
save_release "$head" deployment

# A git that was killed, or a server that lost its power, may have left what isn't a sound repository.
if ! repo_git fsck --connectivity-only --no-dangling --no-progress >/dev/null 2>&1; then
    if [ -d .git ]; then echo "warning: $dir/.git was damaged and is made anew" >&2; fi
    rm -rf .git
    repo_git init -q
fi

if [ "$head" = "$commit" ]; then
    repo_git update-index -q --refresh >/dev/null 2>&1 || :
    if repo_git diff-index --quiet HEAD --; then
        tell change unchanged
        exit 0
    fi
fi
[ -z "$head" ] || tell previous "$head"

if [ -n "$(repo_git config remote.origin.url || :)" ]; then repo_git config remote.origin.url "$url"; fi
# One pack, and all of it on the disk: half an object would be in the way of every later deployment.
fetch() {
    printf 'username=x-access-token\npassword=%s\n' "$password" | repo_git -c core.fsync=all -c fetch.unpackLimit=1 \
        -c credential.helper= -c 'credential.helper=!f() { if [ "$1" = get ]; then cat <&8; fi; }; f' \
        fetch -q --no-tags --no-recurse-submodules --depth 1 "$url" "$1" 8<&0 </dev/null
}
has() { repo_git cat-file -e "$1^{tree}" 2>/dev/null; }
password=$(printf '%s' "$token" | base64 -d)
# A tree that is here may lack its files, where a fetch was killed.
if { [ "$head" != "$commit" ] || ! has "$commit"; } && ! fetch "$commit"; then
    tell fetch failed
    exit 4
fi
# Its objects stay, though no branch may know it any more.
if [ -f .slipway/served/commit ]; then
    served=$(cat .slipway/served/commit)
    has "$served" || fetch "$served" ||
        echo "warning: commit $served, whose files were here, can't be fetched again: this deployment can't be taken back" >&2
    if has "$served"; then repo_git update-ref refs/slipway/served "$served"; fi
fi
unset password

tree=$(repo_git ls-tree -r --full-tree "$commit")
case $tree in
*'160000 commit'*) die unsupported-repository "the repository has submodules" ;;
esac
paths=$(printf '%s\n' "$tree" | cut -f 2-)
tracked=$(printf '%s\n' "$paths" | grep -E '^(infra/)?\.env(\.prod)?$' | head -n 1 || :)
[ -z "$tracked" ] || die env-file-tracked "the repository tracks $tracked"
taken=$(printf '%s\n' "$paths" | grep -E '^(infra|\.slipway(/.*)?|infra/compose\.slipway\.yml)$' | head -n 1 || :)
[ -z "$taken" ] || die unsupported-repository "the repository has $taken, a name that the deployment needs for itself"
if repo_git grep -q 'filter=lfs' "$commit" -- '*.gitattributes' .gitattributes; then
    die unsupported-repository "the repository uses Git LFS"
fi

check_out "$commit" || die checkout-failed "git checkout failed in $dir"
[ "$(repo_git rev-parse HEAD)" = "$commit" ] || die checkout-failed "HEAD isn't the commit after the checkout"
tell change changed
