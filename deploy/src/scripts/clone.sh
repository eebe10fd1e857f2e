# Parameters: commit url token; after project.sh. The token is known to this shell and to the git processes that ask
# for it over a pipe: it isn't in argv, in the environment, in a URL or in a file.
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

head=$(repo_git rev-parse -q --verify HEAD 2>/dev/null || :)

# What serves now, noted until the new release has proven itself: a failure puts it back. Empty: nothing served before.
if [ ! -d .slipway/served ]; then
    rm -rf .slipway/note
    mkdir -m 700 .slipway/note
    if [ -n "$head" ] && [ -f .env ]; then
        install -m 600 .env .slipway/note/env
        if [ -f "$override" ]; then install -m 600 "$override" .slipway/note/override; fi
        for file in .env .env.prod; do
            if by_hand "infra/$file"; then install -m 600 "infra/$file" ".slipway/note/$file"; fi
        done
        running >.slipway/note/running
        [ ! -f .slipway/stopped ] || : >.slipway/note/stopped
        printf '%s\n' "$head" >.slipway/note/commit
        # Its objects stay, though no branch may know it any more.
        repo_git update-ref refs/slipway/served "$head"
    fi
    mv -T .slipway/note .slipway/served
fi

if [ "$head" = "$commit" ]; then
    repo_git update-index -q --refresh >/dev/null 2>&1 || :
    if repo_git diff-index --quiet HEAD --; then
        tell change unchanged
        exit 0
    fi
fi
[ -z "$head" ] || tell previous "$head"

[ -d .git ] || repo_git init -q
if [ -n "$(repo_git config remote.origin.url || :)" ]; then repo_git config remote.origin.url "$url"; fi
fetch() {
    repo_git -c credential.helper= -c 'credential.helper=!f() { if [ "$1" = get ]; then cat <&8; fi; }; f' \
        fetch -q --no-tags --no-recurse-submodules --depth 1 "$url" "$commit" 8<&0 </dev/null
}
if ! repo_git cat-file -e "$commit^{tree}" 2>/dev/null || [ "$head" != "$commit" ]; then
    password=$(printf '%s' "$token" | base64 -d)
    if ! printf 'username=x-access-token\npassword=%s\n' "$password" | fetch; then
        tell fetch failed
        exit 4
    fi
    unset password
fi

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

repo_git checkout -q --force --detach "$commit" || die checkout-failed "git checkout failed in $dir"
[ "$(repo_git rev-parse HEAD)" = "$commit" ] || die checkout-failed "HEAD isn't the commit after the checkout"
tell change changed
