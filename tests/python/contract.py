"""What the vendored contract file makes of things, for the Rust side to compare: samples (paths as arguments) as they
are parsed, events as they are written, and its enums; all as one JSON object."""

import base64
import json
import sys
import uuid
from pathlib import Path

import slipway_events as slipway
from nacl.public import PrivateKey
from pydantic import ValidationError

PROJECT = {"id": "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11", "slug": "corner-shop"}
CODE = {"name": "Acme-Org/corner.shop", "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main"}
LEAST = {
    "project": PROJECT,
    "repository": CODE,
    "server": {"handle": "vps-267179"},
    "allocations": [{"service": "backend", "host_port": 8080, "container_port": 8000}],
    "modules": ["backend"],
}
MOST = {
    **LEAST,
    "repository": {**CODE, "pushes_deployed_by": "both"},
    "server": {
        "handle": "vps-267179",
        "address": "203.0.113.10",
        "ssh_port": 2222,
        "ssh_user": "deploy",
        "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ",
    },
    "allocations": [
        {"service": "backend", "host_port": 8080, "container_port": 8000, "domains": ["shop.example.org", "a.b"]}
    ],
    "modules": ["backend", "tg_bot"],
    "variables": {"GREETING": "it's $5 \"now\" \\"},
    "registry": {"username": "acme-robot", "password": {"reference": "corner-shop.registry"}, "for_ci": True},
    "sequence": 2**53 - 1,
    "expires_at": "2036-11-20T10:30:00+02:00",
    "correlation": {"correlation_id": "c-1", "story_id": None, "chat": {"id": -100, "none": None}, "many": [None]},
}


PLACED = {
    **{name: value for name, value in LEAST.items() if name != "server"},
    "placement": {
        "required": {"region": "eu", "labels": ["ssd"]},
        "preferred": {"labels": ["quiet"]},
        "wait_seconds": 86400,
    },
    "resources": {"ram_mb": 512, "disk_mb": 1024},
    "allocations": [{"service": "backend", "container_port": 8000}],
}


def written() -> list[str]:
    public = base64.b64encode(bytes(PrivateKey.generate().public_key)).decode()
    sealed = {"BOT_TOKEN": slipway.seal("ключ", "2026-11", public), "KEY": {"reference": "shop.payment"}}
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    events = [
        slipway.project_ready_event(slipway.ProjectReady.model_validate(LEAST), source="/orchestrator"),
        slipway.project_ready_event(slipway.ProjectReady.model_validate(PLACED), source="/orchestrator"),
        slipway.project_ready_event(
            slipway.ProjectReady.model_validate({**MOST, "secrets": sealed}),
            source="/orchestrator",
            event_id="e-1",
            traceparent=trace,
        ),
    ]
    return [event.body().decode() for event in events]


def commanded() -> list[str]:
    least = {"project": PROJECT}
    most = {
        **least,
        "server": "vps-267179",
        "reason": "they're done, $ and \u00fc",
        "sequence": 2**53 - 1,
        "expires_at": "2036-11-20T10:30:00+02:00",
        "correlation": MOST["correlation"],
    }
    version = {"deployment": uuid.UUID(int=7)}
    commands = [
        slipway.ProjectStop.model_validate(least),
        slipway.ProjectStop.model_validate(most),
        slipway.ProjectStart.model_validate(most),
        slipway.ProjectRollback.model_validate(least),
        slipway.ProjectRollback.model_validate({**most, "to": {"commit": CODE["commit"]}}),
        slipway.ProjectRollback.model_validate({**most, "to": version}),
        slipway.ProjectUndeploy.model_validate({**most, "remove_volumes": True}),
        slipway.ProjectMove.model_validate(least),
        slipway.ProjectMove.model_validate({**most, "to": "vps-2", "data": "copy"}),
    ]
    request = {"source": "/orchestrator", "id": "e-1"}
    cancels = [
        slipway.DeploymentCancel.model_validate({"deployment_id": uuid.UUID(int=7), "reason": "why not"}),
        slipway.DeploymentCancel.model_validate({"request": request, "correlation": MOST["correlation"]}),
    ]
    events = [slipway.command_event(command, source="/orchestrator") for command in commands]
    events += [slipway.cancel_event(cancel, source="/orchestrator", event_id="e-2") for cancel in cancels]
    cordon = slipway.ServerCordon.model_validate({"server": "vps-1", "cordoned": False, "reason": "it's back"})
    events.append(slipway.cordon_event(cordon, source="/orchestrator"))
    return [event.body().decode() for event in events]


def halved() -> dict:
    code = {name: MOST[name] for name in ("project", "repository", "modules", "variables", "registry", "sequence")}
    place = {name: MOST[name] for name in ("project", "server", "allocations", "expires_at", "correlation")}
    halves = (
        slipway.half_event(slipway.EngineeringDone.model_validate(code), source="/орк", event_id="e-1"),
        slipway.half_event(slipway.ResourcesAllocated.model_validate(place), source="/zavhoz", event_id="a-1"),
    )
    return {
        "bodies": [half.body().decode() for half in halves],
        "joined": slipway.joined_event(*halves).model_dump(mode="json"),
        "deployment_id": str(slipway.joined_deployment_id(*halves)),
    }


def refused(change: dict, model: type = slipway.ProjectReady, least: dict = LEAST) -> bool:
    try:
        model.model_validate({**least, **change})
    except ValidationError:
        return True
    return False


def parsed(path: str) -> dict:
    body = Path(path).read_bytes()
    event = slipway.parse_event(body)
    # A newer worker may tell more; a producer may not.
    if isinstance(event, slipway.ProgressEvent | slipway.ResultEvent):
        more = json.loads(body)
        more["data"]["future"] = more["future"] = 1
        assert slipway.parse_event(json.dumps(more)) == event
    return event.model_dump(mode="json", by_alias=True, exclude_unset=True)


def main() -> None:
    bad = [
        {"future": 1},
        {"modules": []},
        {"project": {**PROJECT, "slug": "../x"}},
        {"sequence": -1},
        {"secrets": {"A": "plain text"}},
        {"repository": {**CODE, "pushes_deployed_by": "nobody"}},
        {"allocations": PLACED["allocations"]},
        {"placement": {"required": {"region": "EU"}}},
        {"placement": {"wait_seconds": 86401}},
        {"resources": {"ram_mb": 0}},
        *(
            {"allocations": [{**LEAST["allocations"][0], "domains": domains}]}
            for domains in (["*.example.org"], ["Shop.example.org"], ["203.0.113.10"], ["a.b"] * 17)
        ),
    ]
    bad_commands = [
        (slipway.ProjectStop, {"to": {"commit": CODE["commit"]}}),
        (slipway.ProjectStop, {"server": "vps/1"}),
        (slipway.ProjectStart, {"reason": "two\nlines"}),
        (slipway.ProjectStart, {"reason": "x" * 501}),
        (slipway.ProjectRollback, {"to": {"commit": "main"}}),
        (slipway.ProjectRollback, {"to": {"commit": CODE["commit"], "deployment": str(uuid.UUID(int=7))}}),
        (slipway.ProjectUndeploy, {"remove_volumes": "certainly"}),
        (slipway.ProjectMove, {"data": "leave"}),
        (slipway.ProjectMove, {"to": "vps/2"}),
        (slipway.ServerCordon, {"server": "vps-1"}),
    ]
    bad_cancels = [{}, {"deployment_id": uuid.UUID(int=7), "request": {"source": "/o", "id": "1"}}]
    result = {
        "parsed": [parsed(path) for path in sys.argv[1:]],
        "written": written(),
        "commanded": commanded(),
        "halved": halved(),
        "refused": [
            *(refused(change) for change in bad),
            *(refused(change, model, {"project": PROJECT}) for model, change in bad_commands),
            *(refused(change, slipway.DeploymentCancel, {}) for change in bad_cancels),
        ],
        "actions": list(slipway.Action),
        "push_deployers": list(slipway.PushDeployer),
        "replacement_ways": list(slipway.ReplacementWay),
        "placement_reasons": list(slipway.PlacementReason),
        "types": list(slipway.EventType),
        "stages": list(slipway.Stage),
        "outcomes": list(slipway.Outcome),
        "codes": {code: code.error_class for code in slipway.ErrorCode},
        "exchanges": [slipway.REQUESTS, slipway.EVENTS],
        "content_type": slipway.CONTENT_TYPE,
        "deployment_id": str(slipway.deployment_id("/орк", "e-1")),
        "replay_id": str(slipway.deployment_id("/o", "e-1", uuid.UUID(int=7))),
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
