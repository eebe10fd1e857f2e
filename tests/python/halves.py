"""Two branches of an orchestrator, as its documentation writes them: takes the example out of the page, calls it with the
state that is read as JSON from standard input, and prints both events and what they make together. With an address it
publishes one of them.

    halves.py PAGE [AMQP_URL engineering|resources] < {"key": "ID:BASE64", "secrets": {NAME: VALUE}, "project_spec": …, …}
"""

import json
import re
import sys
from pathlib import Path

import slipway_events as slipway
from producer import publish


def example(page: str) -> dict:
    """What the page's one block of Python defines."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", Path(page).read_text(), re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(compile(block, page, "exec"), names)
    return names


def main() -> None:
    functions, state = example(sys.argv[1]), json.load(sys.stdin)
    key_id, public_key = state["key"].split(":", 1)
    engineering = functions["engineering_done"](
        state["project_spec"],
        state["repo_info"],
        state["commit_sha"],
        state["secrets"],
        (key_id, public_key),
        state["run_id"],
    )
    resources = functions["resources_allocated"](state["project_spec"], state["allocated_resources"], state["run_id"])
    if sys.argv[2:]:
        url, which = sys.argv[2:]
        publish(url, {"engineering": engineering, "resources": resources}[which])
    told = {
        "engineering": engineering.body().decode(),
        "resources": resources.body().decode(),
        "joined": slipway.joined_event(engineering, resources).model_dump(mode="json"),
        "deployment_id": str(slipway.joined_deployment_id(engineering, resources)),
        "read": [slipway.parse_event(event.body()) == event for event in (engineering, resources)],
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
