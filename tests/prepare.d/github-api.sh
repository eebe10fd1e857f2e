# GitHub's published description of its API, from npm: of the endpoints that the stand-in has, as JSON schemas (draft 4,
# which OpenAPI 3.0 is nearest to).
set -euo pipefail
mkdir -p "$1"
cd "$1"
npm pack --silent --ignore-scripts @octokit/openapi@23.0.2 >/dev/null
sha256sum --check --quiet <<<'71a18407dd5e8464f4e0525daf03deabbe65abd9287d6adc7b5d98f516cd0d0c  octokit-openapi-23.0.2.tgz'
tar --extract --gzip --file octokit-openapi-23.0.2.tgz package/generated/api.github.com.json
/usr/bin/python3 - <<'PROGRAM'
import json

PLACES = ["/app", "/app/installations/{installation_id}/access_tokens", "/installation/token"] + [
    "/repos/{owner}/{repo}" + rest
    for rest in (
        "", "/installation", "/commits/{ref}", "/git/ref/{ref}", "/actions/runs", "/actions/secrets",
        "/actions/secrets/public-key", "/actions/secrets/{secret_name}", "/deployments", "/deployments/{deployment_id}",
        "/deployments/{deployment_id}/statuses",
    )
]
# What the stand-in doesn't have.
OTHERS = {"PATCH /repos/{owner}/{repo}", "DELETE /repos/{owner}/{repo}", "DELETE /repos/{owner}/{repo}/deployments/{deployment_id}"}
PLAIN = "type enum required pattern minLength maxLength minimum maximum minItems maxItems uniqueItems format".split()

with open("package/generated/api.github.com.json") as file:
    source = json.load(file)
definitions = {}


def follow(node):
    while "$ref" in node:
        found = source
        for key in node["$ref"].split("/")[1:]:
            found = found[key]
        node = found
    return node


def schema(node):
    if "$ref" in node:
        name = node["$ref"].split("/")[-1]
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = schema(follow(node))
        return {"$ref": "#/definitions/" + name}
    made = {key: node[key] for key in PLAIN if key in node}
    if "properties" in node:
        made["properties"] = {name: schema(one) for name, one in node["properties"].items()}
    if "items" in node:
        made["items"] = schema(node["items"])
    if isinstance(node.get("additionalProperties"), dict):
        made["additionalProperties"] = schema(node["additionalProperties"])
    elif "additionalProperties" in node:
        made["additionalProperties"] = node["additionalProperties"]
    for several in ("oneOf", "anyOf", "allOf"):
        if several in node:
            made[several] = [schema(one) for one in node[several]]
    return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") else made


def body(node):
    content = follow(node).get("content", {}).get("application/json")
    return schema(content["schema"]) if content and "schema" in content else None


endpoints = {}
for place in PLACES:
    for method, one in source["paths"][place].items():
        name = f"{method.upper()} {place}"
        if name in OTHERS:
            continue
        parameters = [follow(parameter) for parameter in one.get("parameters", [])]
        endpoints[name] = {
            "query": [parameter["name"] for parameter in parameters if parameter["in"] == "query"],
            "request": body(one["requestBody"]) if "requestBody" in one else None,
            "responses": {status: body(answer) for status, answer in one["responses"].items()},
        }
schema({"$ref": "#/components/schemas/basic-error"})
with open("description.json", "w") as file:
    json.dump({"endpoints": endpoints, "definitions": definitions}, file)
PROGRAM
rm -r package octokit-openapi-23.0.2.tgz
