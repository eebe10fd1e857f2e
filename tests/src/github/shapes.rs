//! GitHub's JSON of accounts, repositories and commits, with every property that its published description requires.
//!
//! Deliberately not here: what is true of them; the endpoints put that in.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::hosted_repository::HostedRepository;

const API: &str = "https://api.github.com";
/// Since when everything exists.
pub(super) const BIRTH: &str = "2026-01-01T00:00:00Z";

/// What follows `https://api.github.com/repos/{owner}/{repo}` under which name.
const LINKS: [(&str, &str); 36] = [
    ("archive_url", "/{archive_format}{/ref}"),
    ("assignees_url", "/assignees{/user}"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("branches_url", "/branches{/branch}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("comments_url", "/comments{/number}"),
    ("commits_url", "/commits{/sha}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("contents_url", "/contents/{+path}"),
    ("contributors_url", "/contributors"),
    ("deployments_url", "/deployments"),
    ("downloads_url", "/downloads"),
    ("events_url", "/events"),
    ("forks_url", "/forks"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("hooks_url", "/hooks"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("issue_events_url", "/issues/events{/number}"),
    ("issues_url", "/issues{/number}"),
    ("keys_url", "/keys{/key_id}"),
    ("labels_url", "/labels{/name}"),
    ("languages_url", "/languages"),
    ("merges_url", "/merges"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("pulls_url", "/pulls{/number}"),
    ("releases_url", "/releases{/id}"),
    ("stargazers_url", "/stargazers"),
    ("statuses_url", "/statuses/{sha}"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("tags_url", "/tags"),
    ("teams_url", "/teams"),
    ("trees_url", "/git/trees{/sha}"),
];

/// GitHub's other form of an id.
pub(super) fn node_id(kind: &str, id: u64) -> String {
    format!("{kind}_{id:x}")
}

/// Where a repository is in the API.
pub(super) fn api_url(repository: &HostedRepository) -> String {
    format!("{API}/repos/{}", repository.full_name())
}

/// An organization as an account.
pub(super) fn account(login: &str) -> Value {
    let (api, page) = (format!("{API}/users/{login}"), format!("https://github.com/{login}"));
    json!({
        "login": login,
        "id": 7_000_001,
        "node_id": node_id("O", 7_000_001),
        "avatar_url": "https://avatars.githubusercontent.com/u/7000001?v=4",
        "gravatar_id": "",
        "url": api,
        "html_url": page,
        "followers_url": format!("{api}/followers"),
        "following_url": format!("{api}/following{{/other_user}}"),
        "gists_url": format!("{api}/gists{{/gist_id}}"),
        "starred_url": format!("{api}/starred{{/owner}}{{/repo}}"),
        "subscriptions_url": format!("{api}/subscriptions"),
        "organizations_url": format!("{api}/orgs"),
        "repos_url": format!("{api}/repos"),
        "events_url": format!("{api}/events{{/privacy}}"),
        "received_events_url": format!("{api}/received_events"),
        "type": "Organization",
        "site_admin": false,
    })
}

/// A repository as it stands in something else.
pub(super) fn minimal_repository(repository: &HostedRepository) -> Map<String, Value> {
    let (full_name, url) = (repository.full_name(), api_url(repository));
    let known = json!({
        "id": repository.id,
        "node_id": node_id("R", repository.id),
        "name": repository.name,
        "full_name": full_name,
        "owner": account(&repository.owner),
        "private": repository.private,
        "html_url": format!("https://github.com/{full_name}"),
        "description": null,
        "fork": false,
        "url": url,
    });
    let links = LINKS.iter().map(|(name, rest)| ((*name).to_owned(), format!("{url}{rest}").into()));
    known.as_object().cloned().unwrap_or_default().into_iter().chain(links).collect()
}

/// A repository by itself.
pub(super) fn full_repository(repository: &HostedRepository) -> Value {
    let full_name = repository.full_name();
    let more = json!({
        "clone_url": format!("https://github.com/{full_name}.git"),
        "git_url": format!("git://github.com/{full_name}.git"),
        "ssh_url": format!("git@github.com:{full_name}.git"),
        "svn_url": format!("https://github.com/{full_name}"),
        "mirror_url": null,
        "homepage": null,
        "language": null,
        "license": null,
        "default_branch": repository.default_branch,
        "visibility": if repository.private { "private" } else { "public" },
        "archived": repository.archived,
        "disabled": false,
        "has_issues": true,
        "has_projects": true,
        "has_wiki": true,
        "has_pages": false,
        "has_downloads": true,
        "has_discussions": false,
        "forks": 0,
        "forks_count": 0,
        "open_issues": 0,
        "open_issues_count": 0,
        "stargazers_count": 0,
        "watchers": 0,
        "watchers_count": 0,
        "network_count": 0,
        "subscribers_count": 0,
        "size": 1,
        "created_at": BIRTH,
        "updated_at": BIRTH,
        "pushed_at": BIRTH,
    });
    let mut all = minimal_repository(repository);
    all.extend(more.as_object().cloned().unwrap_or_default());
    all.into()
}

/// A commit by itself.
pub(super) fn commit(repository: &HostedRepository, sha: &str) -> Value {
    let (url, page) = (api_url(repository), format!("https://github.com/{}/commit/{sha}", repository.full_name()));
    let somebody = json!({ "name": "Somebody", "email": "somebody@example.org", "date": BIRTH });
    json!({
        "sha": sha,
        "node_id": format!("C_{sha}"),
        "url": format!("{url}/commits/{sha}"),
        "html_url": page,
        "comments_url": format!("{url}/commits/{sha}/comments"),
        "author": null,
        "committer": null,
        "parents": [],
        "commit": {
            "author": somebody,
            "committer": somebody,
            "message": "A change",
            "comment_count": 0,
            "tree": { "sha": sha, "url": format!("{url}/git/trees/{sha}") },
            "url": format!("{url}/git/commits/{sha}"),
        },
    })
}

/// A time as the API writes it.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
