"""Slipway's events as an orchestrator writes and reads them: one file, to be vendored as it is.

Written for Python 3.12 and pydantic 2; `seal` needs PyNaCl as well. No AMQP here: publish what `project_ready_event`,
`half_event`, `command_event` or `cancel_event` gives to the exchange `REQUESTS` (routing key: its `type`), bind a queue of your own to `EVENTS`, and hand each body to `parse_event`.

What is written refuses unknown fields, what is read tolerates them: newer workers may tell more. The JSON Schemas
beside this file are the binding form; Slipway's tests keep the two in agreement, and what the workers would refuse can't be
made here. Errors name the field and the rule, and never a value, which may be a secret.
"""

import base64
import binascii
import ipaddress
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self, TypedDict, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

VERSION: Literal["1"] = "1"
CONTENT_TYPE = "application/cloudevents+json"

REQUESTS = "slipway.requests"
"""Exchange for requests; the routing key is the event's type. Publish persistent, mandatory and confirmed."""

EVENTS = "slipway.events"
"""Topic exchange of what Slipway tells: `progress.<slug>.<stage>` and `result.<slug>.<outcome>`."""

_SEALED = "slipway.sealed.v1:"
"""What a box begins with that says for which project and variable it was sealed."""

_NAMESPACE = uuid.UUID("8d6c3b0e-5f7a-4c1d-9e42-71a5c0de5117")


class EventType(StrEnum):
    """`type` of an event."""

    PROJECT_READY = "slipway.project.ready.v1"
    ENGINEERING_DONE = "slipway.engineering.done.v1"
    RESOURCES_ALLOCATED = "slipway.resources.allocated.v1"
    PROJECT_STOP = "slipway.project.stop.v1"
    PROJECT_START = "slipway.project.start.v1"
    PROJECT_ROLLBACK = "slipway.project.rollback.v1"
    PROJECT_UNDEPLOY = "slipway.project.undeploy.v1"
    PROJECT_MOVE = "slipway.project.move.v1"
    DEPLOYMENT_CANCEL = "slipway.deployment.cancel.v1"
    SERVER_CORDON = "slipway.server.cordon.v1"
    PROGRESS = "slipway.deployment.progress.v1"
    RESULT = "slipway.deployment.result.v1"


class Action(StrEnum):
    """What a request asks for. `cancel` stands only in the result of a cancel event that was refused, `cordon` in that of an
    event about a server."""

    DEPLOY = "deploy"
    STOP = "stop"
    START = "start"
    ROLLBACK = "rollback"
    UNDEPLOY = "undeploy"
    MOVE = "move"
    CANCEL = "cancel"
    CORDON = "cordon"


class PushDeployer(StrEnum):
    """Who deploys what is pushed to a project's branch: its own CI, Slipway itself, or both; CI's job when left out."""

    CI_JOB = "ci_job"
    WEBHOOK = "webhook"
    BOTH = "both"


class Stage(StrEnum):
    """The stages of the pipeline, in their order; what isn't a deployment takes some of them, or goes backwards."""

    PREFLIGHT = "preflight"
    CLONE = "clone"
    ENV = "env"
    COMPOSE = "compose"
    FIREWALL = "firewall"
    VERIFY = "verify"
    SECRETS = "secrets"


class Change(StrEnum):
    """Whether a stage had something to do."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"


class ReplacementWay(StrEnum):
    """How a release took its predecessor's place: beside it, after it, as the first one, or not at all."""

    OVERLAPPED = "overlapped"
    STOP_FIRST = "stop_first"
    CREATED = "created"
    KEPT = "kept"


class PlacementReason(StrEnum):
    """Why Slipway chose a server, or none."""

    LIVES_THERE = "lives_there"
    NAMED = "named"
    BEST_SCORE = "best_score"
    NO_ROOM = "no_room"


class Outcome(StrEnum):
    """How a deployment ended."""

    SUCCEEDED = "succeeded"
    ALREADY_DEPLOYED = "already_deployed"
    FAILED = "failed"
    MISSING_SECRET = "missing_secret"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class ErrorClass(StrEnum):
    """What an error calls for."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    USER_ACTION = "user_action"
    INFRASTRUCTURE = "infrastructure"


class ErrorCode(StrEnum):
    """A stable error code with its one class. Codes are added, never renamed."""

    error_class: ErrorClass

    def __new__(cls, value: str, error_class: ErrorClass) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.error_class = error_class
        return member

    NOT_JSON = "not-json", ErrorClass.PERMANENT
    NOT_A_CLOUD_EVENT = "not-a-cloud-event", ErrorClass.PERMANENT
    UNSUPPORTED_TYPE = "unsupported-type", ErrorClass.PERMANENT
    UNSUPPORTED_VERSION = "unsupported-version", ErrorClass.PERMANENT
    MISSING_FIELD = "missing-field", ErrorClass.PERMANENT
    INVALID_FIELD = "invalid-field", ErrorClass.PERMANENT
    PLAINTEXT_SECRET = "plaintext-secret", ErrorClass.PERMANENT
    MESSAGE_TOO_LARGE = "message-too-large", ErrorClass.PERMANENT
    EXPIRED_EVENT = "expired-event", ErrorClass.PERMANENT
    UNKNOWN_SEALING_KEY = "unknown-sealing-key", ErrorClass.USER_ACTION
    SEALING_KEY_UNUSABLE = "sealing-key-unusable", ErrorClass.USER_ACTION
    SEALED_SECRET_UNREADABLE = "sealed-secret-unreadable", ErrorClass.PERMANENT
    UNKNOWN_SECRET_REFERENCE = "unknown-secret-reference", ErrorClass.USER_ACTION
    UNKNOWN_SERVER = "unknown-server", ErrorClass.USER_ACTION
    SERVER_NOT_IN_INVENTORY = "server-not-in-inventory", ErrorClass.PERMANENT
    SOURCE_NOT_ALLOWED = "source-not-allowed", ErrorClass.PERMANENT
    SECRET_NOT_FOR_PROJECT = "secret-not-for-project", ErrorClass.PERMANENT
    UNKNOWN_PROJECT = "unknown-project", ErrorClass.USER_ACTION
    AMBIGUOUS_SERVER = "ambiguous-server", ErrorClass.USER_ACTION
    NOT_DEPLOYED = "not-deployed", ErrorClass.USER_ACTION
    SLUG_TAKEN = "slug-taken", ErrorClass.PERMANENT
    REPOSITORY_TAKEN = "repository-taken", ErrorClass.PERMANENT
    DOMAIN_TAKEN = "domain-taken", ErrorClass.USER_ACTION
    NO_CAPACITY = "no-capacity", ErrorClass.INFRASTRUCTURE
    UNKNOWN_VERSION = "unknown-version", ErrorClass.USER_ACTION
    UNKNOWN_DEPLOYMENT = "unknown-deployment", ErrorClass.USER_ACTION
    MISSING_HALF = "missing-half", ErrorClass.USER_ACTION
    ALREADY_ON_SERVER = "already-on-server", ErrorClass.USER_ACTION
    DEPLOYMENT_UNDER_WAY = "deployment-under-way", ErrorClass.TRANSIENT
    DATA_IN_VOLUMES = "data-in-volumes", ErrorClass.USER_ACTION
    FORMER_SERVER_UNREACHABLE = "former-server-unreachable", ErrorClass.INFRASTRUCTURE
    COPY_FAILED = "copy-failed", ErrorClass.INFRASTRUCTURE
    DELIVERY_LIMIT_REACHED = "delivery-limit-reached", ErrorClass.INFRASTRUCTURE
    EXPIRED_IN_QUEUE = "expired-in-queue", ErrorClass.INFRASTRUCTURE
    QUEUE_OVERFLOW = "queue-overflow", ErrorClass.INFRASTRUCTURE
    REJECTED_BY_CONSUMER = "rejected-by-consumer", ErrorClass.INFRASTRUCTURE
    INTAKE_FAILED = "intake-failed", ErrorClass.INFRASTRUCTURE
    UNEXPLAINED_DEAD_LETTER = "unexplained-dead-letter", ErrorClass.INFRASTRUCTURE
    INTERRUPTED_TOO_OFTEN = "interrupted-too-often", ErrorClass.INFRASTRUCTURE
    DEADLINE_EXCEEDED = "deadline-exceeded", ErrorClass.TRANSIENT
    STALE_FENCE = "stale-fence", ErrorClass.TRANSIENT
    PROJECT_BUSY = "project-busy", ErrorClass.TRANSIENT
    DEPLOYMENT_OVERDUE = "deployment-overdue", ErrorClass.PERMANENT
    INTERNAL_ERROR = "internal-error", ErrorClass.INFRASTRUCTURE
    SERVER_UNREACHABLE = "server-unreachable", ErrorClass.TRANSIENT
    SERVER_CONNECTION_LOST = "server-connection-lost", ErrorClass.TRANSIENT
    SSH_KEY_REFUSED = "ssh-key-refused", ErrorClass.USER_ACTION
    SSH_KEY_UNUSABLE = "ssh-key-unusable", ErrorClass.USER_ACTION
    HOST_KEY_UNKNOWN = "host-key-unknown", ErrorClass.USER_ACTION
    HOST_KEY_MISMATCH = "host-key-mismatch", ErrorClass.USER_ACTION
    SSH_COMMAND_REFUSED = "ssh-command-refused", ErrorClass.USER_ACTION
    UNSUPPORTED_OS = "unsupported-os", ErrorClass.USER_ACTION
    DOCKER_MISSING = "docker-missing", ErrorClass.USER_ACTION
    DOCKER_NOT_RUNNING = "docker-not-running", ErrorClass.INFRASTRUCTURE
    DOCKER_TOO_OLD = "docker-too-old", ErrorClass.USER_ACTION
    COMPOSE_MISSING = "compose-missing", ErrorClass.USER_ACTION
    COMPOSE_TOO_OLD = "compose-too-old", ErrorClass.USER_ACTION
    DOCKER_CONFINED = "docker-confined", ErrorClass.USER_ACTION
    GIT_MISSING = "git-missing", ErrorClass.USER_ACTION
    DISK_FULL = "disk-full", ErrorClass.INFRASTRUCTURE
    INODES_EXHAUSTED = "inodes-exhausted", ErrorClass.INFRASTRUCTURE
    MEMORY_LOW = "memory-low", ErrorClass.INFRASTRUCTURE
    CLOCK_SKEWED = "clock-skewed", ErrorClass.INFRASTRUCTURE
    PROJECT_ROOT_NOT_WRITABLE = "project-root-not-writable", ErrorClass.USER_ACTION
    PORT_OCCUPIED = "port-occupied", ErrorClass.USER_ACTION
    REGISTRY_UNRESOLVABLE = "registry-unresolvable", ErrorClass.INFRASTRUCTURE
    FRONT_DOOR_FAILED = "front-door-failed", ErrorClass.INFRASTRUCTURE
    DOMAIN_NOT_HERE = "domain-not-here", ErrorClass.USER_ACTION
    CERTIFICATE_FAILED = "certificate-failed", ErrorClass.TRANSIENT
    OUTPUT_TOO_LARGE = "output-too-large", ErrorClass.USER_ACTION
    SUDO_MISSING = "sudo-missing", ErrorClass.USER_ACTION
    SERVER_LACKS_IPV4 = "server-lacks-ipv4", ErrorClass.USER_ACTION
    REPOSITORY_NOT_FOUND = "repository-not-found", ErrorClass.USER_ACTION
    GIT_CREDENTIAL_REFUSED = "git-credential-refused", ErrorClass.USER_ACTION
    COMMIT_NOT_FOUND = "commit-not-found", ErrorClass.PERMANENT
    GIT_UNAVAILABLE = "git-unavailable", ErrorClass.TRANSIENT
    CHECKOUT_FAILED = "checkout-failed", ErrorClass.INFRASTRUCTURE
    ENV_FILE_TRACKED = "env-file-tracked", ErrorClass.USER_ACTION
    UNSUPPORTED_REPOSITORY = "unsupported-repository", ErrorClass.USER_ACTION
    REPOSITORY_TOO_LARGE = "repository-too-large", ErrorClass.PERMANENT
    COMPOSE_FILE_MISSING = "compose-file-missing", ErrorClass.PERMANENT
    MISSING_SECRET = "missing-secret", ErrorClass.USER_ACTION
    SERVICE_MISSING = "service-missing", ErrorClass.PERMANENT
    COMPOSE_INVALID = "compose-invalid", ErrorClass.PERMANENT
    COMPOSE_NOT_ALLOWED = "compose-not-allowed", ErrorClass.PERMANENT
    ENV_CONTRACT_INVALID = "env-contract-invalid", ErrorClass.PERMANENT
    ENV_CONTRACT_VERSION = "env-contract-version", ErrorClass.PERMANENT
    VARIABLE_UNRESOLVED = "variable-unresolved", ErrorClass.USER_ACTION
    ENV_WRITE_FAILED = "env-write-failed", ErrorClass.INFRASTRUCTURE
    DIRECTORY_NOT_OURS = "directory-not-ours", ErrorClass.USER_ACTION
    UNDEPLOY_FAILED = "undeploy-failed", ErrorClass.INFRASTRUCTURE
    STOP_FAILED = "stop-failed", ErrorClass.INFRASTRUCTURE
    REGISTRY_CREDENTIAL_REFUSED = "registry-credential-refused", ErrorClass.USER_ACTION
    REGISTRY_TLS_FAILED = "registry-tls-failed", ErrorClass.USER_ACTION
    IMAGE_BLOCKED = "image-blocked", ErrorClass.USER_ACTION
    WRONG_ARCHITECTURE = "wrong-architecture", ErrorClass.PERMANENT
    IMAGE_NOT_FOUND = "image-not-found", ErrorClass.TRANSIENT
    REGISTRY_CREDENTIAL_UNUSABLE = "registry-credential-unusable", ErrorClass.USER_ACTION
    REGISTRY_REALM_UNTRUSTED = "registry-realm-untrusted", ErrorClass.USER_ACTION
    REGISTRY_UNAVAILABLE = "registry-unavailable", ErrorClass.TRANSIENT
    REGISTRY_RATE_LIMITED = "registry-rate-limited", ErrorClass.TRANSIENT
    PULL_FAILED = "pull-failed", ErrorClass.TRANSIENT
    START_FAILED = "start-failed", ErrorClass.PERMANENT
    NETWORKS_EXHAUSTED = "networks-exhausted", ErrorClass.INFRASTRUCTURE
    CRASH_LOOP = "crash-loop", ErrorClass.PERMANENT
    UNHEALTHY = "unhealthy", ErrorClass.PERMANENT
    FIREWALL_FAILED = "firewall-failed", ErrorClass.INFRASTRUCTURE
    NOT_LISTENING = "not-listening", ErrorClass.PERMANENT
    NOT_REACHABLE = "not-reachable", ErrorClass.INFRASTRUCTURE
    NOT_HEALTHY = "not-healthy", ErrorClass.PERMANENT
    WRONG_VERSION = "wrong-version", ErrorClass.PERMANENT
    GITHUB_CREDENTIAL_REFUSED = "github-credential-refused", ErrorClass.USER_ACTION
    GITHUB_CREDENTIAL_UNUSABLE = "github-credential-unusable", ErrorClass.USER_ACTION
    GITHUB_NOT_INSTALLED = "github-not-installed", ErrorClass.USER_ACTION
    GITHUB_SUSPENDED = "github-suspended", ErrorClass.USER_ACTION
    GITHUB_FORBIDDEN = "github-forbidden", ErrorClass.USER_ACTION
    GITHUB_IP_NOT_ALLOWED = "github-ip-not-allowed", ErrorClass.USER_ACTION
    GITHUB_SSO_REQUIRED = "github-sso-required", ErrorClass.USER_ACTION
    GITHUB_SECRETS_FULL = "github-secrets-full", ErrorClass.USER_ACTION
    REPOSITORY_MOVED = "repository-moved", ErrorClass.USER_ACTION
    GITHUB_ARCHIVED = "github-archived", ErrorClass.USER_ACTION
    GITHUB_RATE_LIMITED = "github-rate-limited", ErrorClass.TRANSIENT
    GITHUB_UNAVAILABLE = "github-unavailable", ErrorClass.TRANSIENT
    GITHUB_REFUSED = "github-refused", ErrorClass.PERMANENT
    SECRET_LEAKED = "secret-leaked", ErrorClass.USER_ACTION
    DEPLOY_KEY_FAILED = "deploy-key-failed", ErrorClass.INFRASTRUCTURE


# What is written


class _Written(BaseModel):
    """Refuses unknown fields and leaves out what isn't set; what is null in `correlation` stays."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_serializer(mode="wrap")
    def without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """For pydantic."""
        return {name: value for name, value in handler(self).items() if value is not None}


def _text(pattern: str, longest: int) -> StringConstraints:
    return StringConstraints(pattern=pattern, max_length=longest)


def _rule(holds: Callable[[str], bool], rule: str) -> AfterValidator:
    def check(value: str) -> str:
        if not holds(value):
            raise ValueError(f"must {rule}")
        return value

    return AfterValidator(check)


def _is_branch(name: str) -> bool:
    unwanted = ("..", "//", "/.", ".lock/")
    return not name.endswith(("/", ".", ".lock")) and not any(part in name for part in unwanted)


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.split(".")
        label = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
        return all(label.fullmatch(part) for part in labels) and not labels[-1].isdigit()
    return True


_RESERVED = frozenset(
    {"PORT", "PATH", "HOME", "IFS", "ENV", "BASH_ENV", "SHELL", "USER", "PWD", "PS4", "SHELLOPTS", "HOSTNAME"}
)
_RESERVED_PREFIXES = ("LD_", "COMPOSE_", "DOCKER_", "GIT_", "BUILDKIT_", "SSH_")


def _is_variable_name(name: str) -> bool:
    return name not in _RESERVED and not name.startswith(_RESERVED_PREFIXES)


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f"


def _is_attribute(text: str) -> bool:
    unprintable = any(_is_control(character) or character == "\ufffd" for character in text)
    return 1 <= len(text.encode()) <= 200 and not unprintable


def _is_box(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) >= 48
    except (binascii.Error, ValueError):
        return False


def _correlation(value: dict[str, Any]) -> dict[str, Any]:
    written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    if len(written.encode()) > 16 * 1024:
        raise ValueError("must be at most 16384 bytes of JSON")
    if "\\u0000" in written:
        raise ValueError("must not hold NUL")
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", written)
    if re.search(r"[0-9.eE+-]{401}", bare):
        raise ValueError("must not hold a number of more than 400 characters")
    depth = deepest = 0
    for character in bare:
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    if deepest > 125:
        raise ValueError("must be nested at most 125 levels deep")
    return value


def _time(time: datetime) -> datetime:
    if time > datetime(9999, 12, 30, tzinfo=UTC):
        raise ValueError("must not be later than 9999-12-30")
    return time


def _values(variables: dict[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if len(value.encode()) > 32 * 1024 or "\x00" in value:
            raise ValueError(f"{name} must be at most 32 KiB without NUL")
    return variables


Slug = Annotated[str, _text(r"^[a-z][a-z0-9-]{0,39}$", 40)]
RepositoryName = Annotated[
    str,
    _text(r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$", 140),
    _rule(lambda name: name.partition("/")[2] not in (".", ".."), "be owner/name as GitHub allows it"),
]
CommitSha = Annotated[str, _text(r"^[0-9a-f]{40}$", 40)]
BranchName = Annotated[
    str, _text(r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}$", 200), _rule(_is_branch, "be a plain git branch name")
]
ServerHandle = Annotated[str, _text(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", 64)]
Host = Annotated[
    str, _text(r"^[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}$", 253), _rule(_is_host, "be an IP address or a DNS name")
]
DomainName = Annotated[str, _text(r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", 253)]
RegistryUser = Annotated[str, _text(r"^[A-Za-z0-9_$][A-Za-z0-9._@+$-]{0,127}$", 128)]
ServerLabel = Annotated[str, _text(r"^[a-z0-9][a-z0-9._-]{0,62}$", 63)]
UserName = Annotated[str, _text(r"^[a-z_][a-z0-9_-]{0,31}$", 32)]
ServiceName = Annotated[str, _text(r"^[a-z][a-z0-9_-]{0,62}$", 63)]
VariableName = Annotated[str, _text(r"^[A-Z_][A-Z0-9_]{0,99}$", 100), _rule(_is_variable_name, "not be reserved")]
SecretReference = Annotated[
    str, _text(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", 128), _rule(lambda name: ".." not in name, "not hold two dots")
]
HostKey = Annotated[
    str, _text(r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,3}$", 2048)
]
Port = Annotated[int, Field(ge=1, le=65535)]
Attribute = Annotated[str, _rule(_is_attribute, "be 1 to 200 bytes of printable text")]
Correlation = Annotated[dict[str, Any], AfterValidator(_correlation)]
Time = Annotated[AwareDatetime, AfterValidator(_time)]


class Project(_Written):
    """Identity of a project; `slug` is its one spelling."""

    id: uuid.UUID
    slug: Slug


class Repository(_Written):
    """The code: `owner/name` on GitHub, the exact commit, the branch whose pushes deploy from then on, and by whom."""

    name: RepositoryName
    commit: CommitSha
    branch: BranchName
    pushes_deployed_by: PushDeployer | None = None


class Server(_Written):
    """The server; all but the handle is for one that Slipway's inventory doesn't know."""

    handle: ServerHandle
    address: Host | None = None
    ssh_port: Port | None = None
    ssh_user: UserName | None = None
    host_key: HostKey | None = None


class HealthCheck(_Written):
    """What a service answers over HTTP when it's healthy, asked from outside of its server."""

    path: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9/._~%?=&+-]{0,199}$")] | None = None
    """`/health` of a backend and `/` of any other when left out."""
    host: Host | None = None
    """The host to ask for, as people's browsers name it; the server's address with the port when left out."""
    statuses: Annotated[list[Annotated[int, Field(ge=100, le=599)]], Field(max_length=32)] = []
    """Any from 200 to 399 when left out."""
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None
    """As the workers are configured when left out."""


class Allocation(_Written):
    """A port of the server that belongs to one service of the project."""

    service: ServiceName
    host_port: Port | None = None
    """May be left out where the server is: then Slipway chooses one that is free."""
    container_port: Port
    health: HealthCheck | None = None
    """How a module shows that it's healthy. Without it a backend is asked for `/health` and a frontend for `/`; any other
    must at least take connections, but for `tg_bot` and `notifications_worker`, which needn't listen. A service that is no
    module, such as a database, isn't asked."""
    domains: Annotated[list[DomainName], Field(max_length=16)] | None = None
    """Under which the front door serves this module over HTTPS, the first one in the result's `url`. They have to lead to
    the server, and belong to one project alone."""


class SealedBox(_Written):
    """A box that only the workers can open; `seal` makes it."""

    key_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    sealed_box: Annotated[
        str, StringConstraints(min_length=64, max_length=90000), _rule(_is_box, "be base64 of a sealed box")
    ]


class Sealed(_Written):
    """A secret that travels as a sealed box."""

    sealed: SealedBox


class Reference(_Written):
    """A secret that is mounted into the workers under this name."""

    reference: SecretReference


Variables = Annotated[dict[VariableName, str], Field(max_length=500), AfterValidator(_values)]
Secrets = Annotated[dict[VariableName, Sealed | Reference], Field(max_length=100)]


class RegistryAccess(_Written):
    """A credential for the image registry that belongs to one project. It never becomes a variable."""

    username: RegistryUser
    password: Sealed | Reference
    """As the secret `REGISTRY_PASSWORD` would be."""
    for_ci: bool | None = None
    """Whether it may push, and CI is to push images with it: the repository gets it as `REGISTRY_URL`, `REGISTRY_USER` and
    `REGISTRY_PASSWORD`. Left out: the repository gets nothing."""


class ServerTraits(_Written):
    """What operators say of a server."""

    region: ServerLabel | None = None
    labels: Annotated[list[ServerLabel], Field(max_length=16)] | None = None


class PlacementWish(_Written):
    """What is asked of a server that Slipway is to choose."""

    required: ServerTraits | None = None
    """What it must have."""
    preferred: ServerTraits | None = None
    """Of the servers with room, those that have most of it come first."""
    wait_seconds: Annotated[int, Field(ge=0, le=86400)] | None = None
    """How long to wait for room before it fails as `no-capacity`; as the workers are configured when left out."""


class Resources(_Written):
    """What a project needs of its server, in MiB; as the workers are configured where left out."""

    ram_mb: Annotated[int, Field(ge=1, le=16777216)] | None = None
    disk_mb: Annotated[int, Field(ge=1, le=16777216)] | None = None


def _check_environment(variables: Mapping[str, str], secrets: Mapping[str, object]) -> None:
    if both := sorted(set(variables) & set(secrets)):
        raise ValueError(f"{both[0]} must not be a variable and a secret at once")


def _speaks_http(allocation: Allocation) -> bool:
    return allocation.service in ("backend", "frontend") or allocation.health is not None


def _check_allocations(allocations: Iterable[Allocation], is_served: Callable[[Allocation], bool]) -> None:
    services: set[str] = set()
    ports: set[int] = set()
    domains: set[str] = set()
    for allocation in allocations:
        if allocation.service in services:
            raise ValueError(f"allocations must not name service {allocation.service} twice")
        services.add(allocation.service)
        if allocation.host_port in ports:
            raise ValueError(f"allocations must not give port {allocation.host_port} to two services")
        if allocation.host_port is not None:
            ports.add(allocation.host_port)
        if allocation.domains and not is_served(allocation):
            rule = "it's no module, or neither backend nor frontend and without `health`"
            raise ValueError(f"service {allocation.service} must be without domains: {rule}")
        for domain in allocation.domains or ():
            if domain in domains:
                raise ValueError(f"allocations must not name domain {domain} twice")
            domains.add(domain)


class ProjectReady(_Written):
    """A project whose code is done, and which is to be deployed. Without `server` Slipway chooses one, and the ports that the
    allocations don't give; a project that lives somewhere stays there."""

    version: ClassVar[Literal["1"]] = VERSION

    project: Project
    repository: Repository
    server: Server | None = None
    placement: PlacementWish | None = None
    """What is asked of the server, where it's left out; without effect otherwise."""
    resources: Resources | None = None
    allocations: Annotated[list[Allocation], Field(min_length=1, max_length=32)]
    modules: Annotated[list[ServiceName], Field(min_length=1, max_length=32)]
    variables: Variables = {}
    """Plain variables; never a secret. What an earlier request gave and this one leaves out is removed."""
    secrets: Secrets = {}
    """As with variables, what this request leaves out is removed."""
    registry: RegistryAccess | None = None
    """This project's own credential for the registry that its images are in. Without it the workers use theirs."""
    sequence: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Your number of this request within the project: the highest wins. Without it the event's time decides."""
    expires_at: Time | None = None
    correlation: Correlation = {}
    """Echoed untouched in every event about this deployment."""

    @model_validator(mode="after")
    def keeps_rules(self) -> Self:
        """For pydantic."""
        _check_allocations(self.allocations, lambda one: one.service in self.modules and _speaks_http(one))
        if not any(one.service in ("backend", "frontend") and one.service in self.modules for one in self.allocations):
            raise ValueError("allocations must hold the port of a module that serves the web: frontend or backend")
        _check_environment(self.variables, self.secrets)
        if self.server is not None and any(allocation.host_port is None for allocation in self.allocations):
            raise ValueError("give host_port where the server is given")
        return self


class EngineeringDone(_Written):
    """One half of a `ProjectReady`: the code is done. With `ResourcesAllocated`, in any order, it's deployed."""

    version: ClassVar[Literal["1"]] = VERSION

    project: Project
    """Spelt as in the other half."""
    repository: Repository
    modules: Annotated[list[ServiceName], Field(min_length=1, max_length=32)]
    variables: Variables = {}
    secrets: Secrets = {}
    registry: RegistryAccess | None = None
    sequence: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Counted together with the project's other requests: the highest wins. Without it the event's time decides."""
    expires_at: Time | None = None
    correlation: Correlation = {}
    """Echoed in every event about the deployment; of a name in both halves this one's value counts."""

    @model_validator(mode="after")
    def keeps_rules(self) -> Self:
        """For pydantic."""
        _check_environment(self.variables, self.secrets)
        return self


class ResourcesAllocated(_Written):
    """The other half of a `ProjectReady`: the server and the ports are allocated."""

    version: ClassVar[Literal["1"]] = VERSION

    project: Project
    """Spelt as in the other half."""
    server: Server
    allocations: Annotated[list[Allocation], Field(min_length=1, max_length=32)]
    sequence: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Counted together with the project's other requests: the highest wins. Without it the event's time decides."""
    expires_at: Time | None = None
    correlation: Correlation = {}

    @model_validator(mode="after")
    def keeps_rules(self) -> Self:
        """For pydantic."""
        _check_allocations(self.allocations, lambda _: True)
        if any(allocation.host_port is None for allocation in self.allocations):
            raise ValueError("give host_port: where the server is given, Slipway chooses none")
        return self


Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class _Command(_Written):
    version: ClassVar[Literal["1"]] = VERSION

    project: Project
    server: ServerHandle | None = None
    """Needed only for a project that is on several servers."""
    reason: Reason | None = None
    """For the record; never a secret."""
    sequence: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Counted together with the project's deployments: the highest wins. Without it the event's time decides."""
    expires_at: Time | None = None
    correlation: Correlation = {}
    """Echoed untouched in every event about this request."""


class ProjectStop(_Command):
    """Stop the project's containers; they stay stopped when the server reboots."""


class ProjectStart(_Command):
    """Start a stopped project; it's done when it answers."""


class VersionOfDeployment(_Written):
    """The version that this deployment made."""

    deployment: uuid.UUID


class VersionOfCommit(_Written):
    """The latest version of this commit."""

    commit: CommitSha


class ProjectRollback(_Command):
    """Deploy a recorded version again: the one before the present one when `to` is left out."""

    to: VersionOfDeployment | VersionOfCommit | None = None


class ProjectUndeploy(_Command):
    """Take the project off its server. Its volumes stay, for a later deployment, unless `remove_volumes` is set."""

    remove_volumes: bool = False


class MoveData(StrEnum):
    """What becomes of a project's data when it's moved: of the volumes that have a name."""

    REFUSE = "refuse"
    """A project that has data isn't moved."""
    COPY = "copy"
    """They are copied while the project is stopped."""


class ProjectMove(_Command):
    """Deploy the version that the project has on another server, and take it off the one where it was. Until the new one is
    proven, the old one serves; a move that fails leaves it so."""

    to: ServerHandle | None = None
    """Slipway chooses when it's left out."""
    data: MoveData = MoveData.REFUSE


class EventReference(_Written):
    """An event, by what makes it unique."""

    source: Attribute
    id: Attribute


class DeploymentCancel(_Written):
    """Call a deployment off, named by its id or by the event that asked for it. One that has ended stays as it is."""

    version: ClassVar[Literal["1"]] = VERSION

    deployment_id: uuid.UUID | None = None
    request: EventReference | None = None
    reason: Reason | None = None
    correlation: Correlation = {}

    @model_validator(mode="after")
    def names_one(self) -> Self:
        """For pydantic."""
        if (self.deployment_id is None) == (self.request is None):
            raise ValueError("give either deployment_id or request")
        return self


class ServerCordon(_Written):
    """Keep new projects off a server, or let it have them again: those whose request leaves the server to Slipway. The
    projects that live there go on being deployed. Of several the latest `time` counts, an older one is `superseded`."""

    version: ClassVar[Literal["1"]] = VERSION

    server: ServerHandle
    cordoned: bool
    reason: Reason | None = None
    correlation: Correlation = {}


class _RequestEvent(_Written):
    specversion: Literal["1.0"] = "1.0"
    id: Attribute
    source: Attribute
    subject: Attribute | None = None
    time: Time | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None
    tracestate: str | None = None

    @model_validator(mode="after")
    def tells_no_secret(self) -> Self:
        """For pydantic."""
        body = self.body()
        if len(body) > 1024 * 1024:
            raise ValueError("the event must be at most 1 MiB")
        if field := _plaintext_in(json.loads(body)):
            raise ValueError(f"{field} holds a secret in plain text: seal it, or refer to a mounted one")
        return self

    def body(self) -> bytes:
        """The bytes to publish, with content type `CONTENT_TYPE`."""
        return self.model_dump_json().encode()

    @property
    def deployment_id(self) -> uuid.UUID:
        """The `deployment_id` of everything that is told about this request: known before anybody has answered."""
        return deployment_id(self.source, self.id)


class ProjectReadyEvent(_RequestEvent):
    """The CloudEvent around a `ProjectReady`."""

    type: Literal[EventType.PROJECT_READY] = EventType.PROJECT_READY
    data: ProjectReady


class EngineeringDoneEvent(_RequestEvent):
    """The CloudEvent around an `EngineeringDone`. Its own `deployment_id` is told of only when no deployment comes of it."""

    type: Literal[EventType.ENGINEERING_DONE] = EventType.ENGINEERING_DONE
    data: EngineeringDone


class ResourcesAllocatedEvent(_RequestEvent):
    """The CloudEvent around a `ResourcesAllocated`. Its own `deployment_id` is told of only when no deployment comes of it."""

    type: Literal[EventType.RESOURCES_ALLOCATED] = EventType.RESOURCES_ALLOCATED
    data: ResourcesAllocated


class ProjectStopEvent(_RequestEvent):
    """The CloudEvent around a `ProjectStop`."""

    type: Literal[EventType.PROJECT_STOP] = EventType.PROJECT_STOP
    data: ProjectStop


class ProjectStartEvent(_RequestEvent):
    """The CloudEvent around a `ProjectStart`."""

    type: Literal[EventType.PROJECT_START] = EventType.PROJECT_START
    data: ProjectStart


class ProjectRollbackEvent(_RequestEvent):
    """The CloudEvent around a `ProjectRollback`."""

    type: Literal[EventType.PROJECT_ROLLBACK] = EventType.PROJECT_ROLLBACK
    data: ProjectRollback


class ProjectUndeployEvent(_RequestEvent):
    """The CloudEvent around a `ProjectUndeploy`."""

    type: Literal[EventType.PROJECT_UNDEPLOY] = EventType.PROJECT_UNDEPLOY
    data: ProjectUndeploy


class ProjectMoveEvent(_RequestEvent):
    """The CloudEvent around a `ProjectMove`."""

    type: Literal[EventType.PROJECT_MOVE] = EventType.PROJECT_MOVE
    data: ProjectMove


class DeploymentCancelEvent(_RequestEvent):
    """The CloudEvent around a `DeploymentCancel`. It's answered by the result of the deployment that it cancels."""

    type: Literal[EventType.DEPLOYMENT_CANCEL] = EventType.DEPLOYMENT_CANCEL
    data: DeploymentCancel


class ServerCordonEvent(_RequestEvent):
    """The CloudEvent around a `ServerCordon`. Its one result has the action `cordon`."""

    type: Literal[EventType.SERVER_CORDON] = EventType.SERVER_CORDON
    data: ServerCordon


class _Head(TypedDict):
    id: str
    source: str
    subject: str | None
    time: datetime
    traceparent: str | None


def _head(source: str, event_id: str | None, subject: str | None, traceparent: str | None) -> _Head:
    return {
        "id": event_id or str(uuid.uuid4()),
        "source": source,
        "subject": subject,
        "time": datetime.now(UTC),
        "traceparent": traceparent,
    }


def project_ready_event(
    data: ProjectReady, *, source: str, event_id: str | None = None, traceparent: str | None = None
) -> ProjectReadyEvent:
    """A new event for `data`. Publish one event again under its own id as often as you like: it's one deployment."""
    return ProjectReadyEvent(**_head(source, event_id, data.project.slug, traceparent), data=data)


Half = EngineeringDone | ResourcesAllocated
HalfEvent = EngineeringDoneEvent | ResourcesAllocatedEvent


def half_event(
    data: Half, *, source: str, event_id: str | None = None, traceparent: str | None = None
) -> HalfEvent:
    """A new event for one half of a request. Publish one event again under its own id as often as you like."""
    head = _head(source, event_id, data.project.slug, traceparent)
    if isinstance(data, EngineeringDone):
        return EngineeringDoneEvent(**head, data=data)
    return ResourcesAllocatedEvent(**head, data=data)


Command = ProjectStop | ProjectStart | ProjectRollback | ProjectUndeploy | ProjectMove
CommandEvent = ProjectStopEvent | ProjectStartEvent | ProjectRollbackEvent | ProjectUndeployEvent | ProjectMoveEvent


def command_event(
    data: Command, *, source: str, event_id: str | None = None, traceparent: str | None = None
) -> CommandEvent:
    """A new event for a command. Its progress and its one result are told like a deployment's, with its `action`."""
    head = _head(source, event_id, data.project.slug, traceparent)
    match data:
        case ProjectStop():
            return ProjectStopEvent(**head, data=data)
        case ProjectStart():
            return ProjectStartEvent(**head, data=data)
        case ProjectRollback():
            return ProjectRollbackEvent(**head, data=data)
        case ProjectUndeploy():
            return ProjectUndeployEvent(**head, data=data)
        case ProjectMove():
            return ProjectMoveEvent(**head, data=data)


def cancel_event(
    data: DeploymentCancel, *, source: str, event_id: str | None = None, traceparent: str | None = None
) -> DeploymentCancelEvent:
    """A new event that cancels a deployment. Publish it as often as you like; it may even overtake the request."""
    return DeploymentCancelEvent(**_head(source, event_id, None, traceparent), data=data)


def cordon_event(
    data: ServerCordon, *, source: str, event_id: str | None = None, traceparent: str | None = None
) -> ServerCordonEvent:
    """A new event that cordons a server or uncordons it."""
    return ServerCordonEvent(**_head(source, event_id, data.server, traceparent), data=data)


def seal(
    value: str, key_id: str, public_key: str, *, project: uuid.UUID | str | None = None, name: str | None = None
) -> Sealed:
    """Seals a secret to the workers' public key (base64), as `slipway keys public` prints it with its id.

    Give the project's id and the variable's name: the box opens for these alone then, whoever copies it. Without them it
    has the old form, which workers can be told to refuse.
    """
    from nacl.public import PublicKey
    from nacl.public import SealedBox as Box

    if (project is None) != (name is None):
        raise ValueError("give both project and name")
    if project is not None:
        content = {"project": str(uuid.UUID(str(project))), "name": name, "value": value}
        value = _SEALED + json.dumps(content, ensure_ascii=False)
    box = Box(PublicKey(base64.b64decode(public_key, validate=True))).encrypt(value.encode())
    return Sealed(sealed=SealedBox(key_id=key_id, sealed_box=base64.b64encode(box).decode()))


def deployment_id(source: str, event_id: str, replay: uuid.UUID | None = None) -> uuid.UUID:
    """The id of the deployment that an event asks for, or that a replay of it asks for."""
    return _derived("deployment", source, event_id, str(replay or ""))


def joined_event(engineering: EngineeringDoneEvent, resources: ResourcesAllocatedEvent) -> EventReference:
    """The request to deploy that two halves make, whichever comes first: as `causationid` names it, and as it's cancelled."""
    joined = _derived("joined", engineering.source, engineering.id, resources.source, resources.id)
    return EventReference(source=engineering.source, id=f"joined-{joined}")


def joined_deployment_id(engineering: EngineeringDoneEvent, resources: ResourcesAllocatedEvent) -> uuid.UUID:
    """The id of the deployment that two halves make, whichever comes first."""
    event = joined_event(engineering, resources)
    return deployment_id(event.source, event.id)


def _derived(*parts: str) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, "".join(f"{len(part.encode())}:{part}" for part in parts))


# Secrets in plain text: what the workers refuse


_SHAPES = re.compile(
    rb"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{16}|(?:github_pat_|glpat-)[A-Za-z0-9_-]{16}"
    rb"|(?:xox[abprs]-|xapp-)[A-Za-z0-9_-]{10}|[sr]k_live_[A-Za-z0-9]{16}"
    rb"|A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])|AGE-SECRET-KEY-1[A-Z0-9]{20}|npm_[A-Za-z0-9]{36}"
    rb"|dckr_pat_[A-Za-z0-9_-]{20}|hf_[A-Za-z0-9]{30}|pypi-[A-Za-z0-9_-]{60})"
    rb"|PRIVATE KEY(?: BLOCK)?-----"
)
_OFTEN_PUBLIC = re.compile(
    rb"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}"
    rb"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{9,509}\.eyJ(?:[A-Za-z0-9_-]{509}|[A-Za-z0-9_-]{0,508}\.[A-Za-z0-9_-]{10})"
)
_OPENAI = re.compile(rb"(?<![A-Za-z0-9])sk-(?=([A-Za-z0-9_-]{20,64}))")
_BOT = re.compile(rb"(?<![0-9])[0-9]{6,12}:(?=([A-Za-z0-9_-]{30,65}))")
_AUTHORITY = re.compile(rb"://(?=([^/?#\"'<> \t\n\x0c\r]{0,512}))")


def _is_mixed(text: bytes, *, digits: bool = True) -> bool:
    kinds = [rb"[a-z]", rb"[A-Z]", *([rb"[0-9]"] if digits else [])]
    return all(re.search(kind, text) for kind in kinds)


def _is_bot_token(before: bytes, key: bytes) -> bool:
    mixed = _is_mixed(key, digits=False)
    words = not mixed and re.search(rb"[-_]", key) is not None
    alone = before.endswith(b"bot") or not re.search(rb"[A-Za-z0-9:]\Z", before)
    exact = len(key) == 35 and re.search(rb"[0-9]", key) is not None and not words
    return alone and (exact or (30 <= len(key) <= 64 and mixed and key.startswith(b"AA")))


def _has_password(authority: bytes) -> bool:
    login, at, _ = authority.rpartition(b"@")
    _, colon, password = login.partition(b":")
    if not at or not colon or not password or re.match(rb"[0-9]{1,5},", password):
        return False
    return not _is_variable(password.decode(errors="replace"))


def _holds_credential(text: str, *, public_too: bool = True) -> bool:
    """Whether a text holds something that has the shape of a well-known credential."""
    data = text.encode(errors="replace")
    if _SHAPES.search(data) or (public_too and _OFTEN_PUBLIC.search(data)):
        return True
    parts = (part for found in _OPENAI.finditer(data) for part in found[1].split(b"-"))
    return (
        any(len(part) >= 12 and _is_mixed(part) for part in parts)
        or any(_is_bot_token(data[: found.start()], found[1]) for found in _BOT.finditer(data))
        or any(_has_password(found[1]) for found in _AUTHORITY.finditer(data))
    )


_SECRET_WORDS = frozenset(
    {"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "APIKEY"}
)
_SECRET_PAIRS = ("API_KEY", "SECRET_KEY", "PRIVATE_KEY", "ACCESS_KEY", "ENCRYPTION_KEY")
_ABOUT = frozenset(
    {
        "TTL", "LENGTH", "LEN", "MIN", "MAX", "SIZE", "COUNT", "LIMIT", "URL", "URI", "ENDPOINT", "HOST", "ISSUER",
        "AUDIENCE", "EXPIRY", "EXPIRES", "EXPIRATION", "LIFETIME", "TIMEOUT", "INTERVAL", "SECONDS", "MINUTES",
        "HOURS", "DAYS", "TYPE", "NAME", "USER", "ID", "REF", "REFERENCE", "FILE", "PATH", "POLICY", "ALGORITHM",
        "REQUIRED", "ENABLED",
    }
)
_OF_LISTS = frozenset({"PAGE", "CONTINUATION", "CURSOR", "SYNC"})
_SWITCHES = frozenset({"true", "false", "yes", "no", "on", "off", "null", "none"})
_BEGINNINGS = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "xoxb-", "AGE-SECRET-KEY-")

_NOT_SUSPICIOUS, _TOKEN, _PASSWORD = 0, 1, 2


def _names_a_secret(name: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(name.split("_")) or any(pair in name for pair in _SECRET_PAIRS)


def _is_variable(text: str) -> bool:
    return re.fullmatch(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})", text) is not None


def _suspicion(name: str) -> int:
    others = [word for word in name.split("_") if word != "TOKEN"]
    if not _names_a_secret(name):
        return _NOT_SUSPICIOUS
    if "TOKEN" not in name.split("_") or _names_a_secret("_".join(others)):
        return _PASSWORD
    return _TOKEN if _OF_LISTS.isdisjoint(others) else _NOT_SUSPICIOUS


def _last_words(name: str) -> str:
    spelt = re.sub(r"[^A-Za-z0-9]", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[:200])).upper()
    words = [word for word in spelt.split("_") if word][-2:]
    if len(words) == 2 and _names_a_secret(words[0]) and not _names_a_secret(words[1]):
        words = words[1:]
    return "_".join(words)


def _is_about(key: str) -> bool:
    return _last_words(key).rpartition("_")[2] in _ABOUT


def _is_source(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    fields = cast(dict[str, object], value)
    if set(fields) == {"sealed"} and isinstance(fields["sealed"], dict):
        return set(cast(dict[str, object], fields["sealed"])) <= {"key_id", "sealed_box"}
    return set(fields) == {"reference"} and isinstance(fields["reference"], str)


def _is_amount(text: str) -> bool:
    number = re.sub(r"[A-Za-z]*\Z", "", text)
    return len(text) - len(number) <= 7 and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", number) is not None


def _holds_secret(suspicion: int, value: object) -> bool:
    if suspicion == _NOT_SUSPICIOUS or value is None or isinstance(value, bool) or _is_source(value):
        return False
    if isinstance(value, list):
        return any(_holds_secret(suspicion, item) for item in cast(list[object], value))
    if isinstance(value, dict):
        fields = cast(dict[str, object], value)
        return any(not _is_about(key) and _holds_secret(suspicion, below) for key, below in fields.items())
    if isinstance(value, str):
        if not value or value.lower() in _SWITCHES or _is_variable(value):
            return False
        return suspicion == _PASSWORD or (len(value.encode()) >= 8 and not _is_amount(value))
    return suspicion == _PASSWORD


def _plaintext_in(event: dict[str, Any]) -> str | None:
    """The place of the first secret in plain text; None where there is none."""
    data = cast(dict[str, Any], event["data"])
    if any(word.startswith(_BEGINNINGS) for word in str(data.get("reason", "")).split()):
        return "/data/reason"
    for name, value in cast(dict[str, str], data.get("variables", {})).items():
        about = name.rpartition("_")[2] in _ABOUT
        if value.startswith(_BEGINNINGS) or (not about and _holds_secret(_suspicion(name), value)):
            return f"/data/variables/{name}"
    return _plaintext_below(event, "", _NOT_SUSPICIOUS)


_BOXES = re.compile(r"/data/(secrets/[^/]+|registry/password)/sealed/sealed_box")


def _plaintext_below(value: object, at: str, above: int | None) -> str | None:
    """As `_plaintext_in`; `above` is how suspicious the names above are, None where names say nothing."""
    if isinstance(value, str):
        public_too = not at.startswith("/data/variables/")
        box = _BOXES.fullmatch(at) is not None
        return at if not box and _holds_credential(value, public_too=public_too) else None
    if isinstance(value, list):
        items = enumerate(cast(list[object], value))
        return next(filter(None, (_plaintext_below(item, f"{at}/{i}", above) for i, item in items)), None)
    if not isinstance(value, dict):
        return None
    for key, below in cast(dict[str, object], value).items():
        place = f"{at}/{key}"
        if _holds_credential(key):
            return at or "/"
        suspicion = above
        if place in ("/data/correlation", "/data/variables"):
            suspicion = None
        elif above is not None:
            own = _suspicion(_last_words(key))
            if own > above and _holds_secret(own, below):
                return place
            suspicion = _NOT_SUSPICIOUS if _is_about(key) else max(above, own)
        if found := _plaintext_below(below, place, suspicion):
            return found
    return None


# What is read


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


# Words that newer workers tell and this file doesn't know come as text, and the rest of the event is read all the same.
AnyStage = Annotated[Stage | str, Field(union_mode="left_to_right")]
AnyChange = Annotated[Change | str, Field(union_mode="left_to_right")]
AnyAction = Annotated[Action | str, Field(union_mode="left_to_right")]
AnyOutcome = Annotated[Outcome | str, Field(union_mode="left_to_right")]
AnyErrorCode = Annotated[ErrorCode | str, Field(union_mode="left_to_right")]


class ProjectSeen(_Read):
    """Identity of a project."""

    id: uuid.UUID
    slug: str


class Failure(_Read):
    """Why something failed, and what to do next."""

    code: AnyErrorCode
    """Text when these workers are newer than this file: go by `error_class` then."""
    error_class: Annotated[ErrorClass | str, Field(alias="class", union_mode="left_to_right")]
    stage: AnyStage | None = None
    message: str
    secret_description: str | None = None
    """What the project itself says about a secret that is missing."""
    next_action: str
    tail: list[str] = []


class Serving(_Read):
    """What answers on the project's port once a deployment has ended."""

    commit: str | None = None
    """Absent when none runs, or when nothing proves which one does."""
    proven: bool
    """Whether it gave a worker a healthy answer, asked from outside the server."""


class Exposed(_Read):
    """A published TCP port. What Docker publishes, no rule of ufw closes."""

    port: int
    service: str
    answers: bool
    """Whether it took a worker's connection, from outside the server."""
    asked_for: bool
    """Whether the request allocates it. One that answers though it doesn't is a finding."""


class Replacement(_Read):
    """How a service's release took its predecessor's place."""

    how: Annotated[ReplacementWay | str, Field(union_mode="left_to_right")]
    """Text when these workers are newer than this file."""
    why: str | None = None
    """Why the two couldn't run side by side."""
    gap_ms: int | None = None
    """For how long nothing answered in between; None where there was no gap, or nobody measured it."""


class Lack(_Read):
    """Something that a server lacks: `ram`, `disk`, `ports`, `cordoned`…, and the same in words."""

    what: str
    message: str


class ServerScore(_Read):
    """A server in view of what was needed. What has room lacks nothing."""

    server: str
    score: float | None = None
    """None where nothing is known of its memory."""
    preferred: int = 0
    """How much of what was preferred it has."""
    lacks: list[Lack] = []


class NeededRoom(_Read):
    """What was needed of a server."""

    ram_mb: int
    disk_mb: int
    ports: int


class Placement(_Read):
    """How Slipway chose a server and ports, or why it found none."""

    reason: Annotated[PlacementReason | str, Field(union_mode="left_to_right")]
    decided_at: AwareDatetime
    needed: NeededRoom
    ports: dict[str, int] = {}
    """By service."""
    left_ports: list[int] = []
    """Chosen before and left, since a stranger holds them."""
    servers: list[ServerScore] = []
    """The best first."""
    more_servers: int = 0
    """How many more there were."""


class Move(_Read):
    """How a move went."""

    origin: str = Field(alias="from")
    """The server that the project was on."""
    to: str | None = None
    """None where no server was found."""
    data: Annotated[MoveData | str, Field(union_mode="left_to_right")]
    """What was to become of its data; text when these workers are newer than this file."""
    gap_ms: int | None = None
    """For how long services ran on neither server; None after a move that failed."""
    bytes: int | None = None
    """How many were copied."""
    volumes: list[str] = []
    """Those that were copied. They stay on the server that the project was on."""
    left_volumes: list[str] = []
    """What stays there for good, since it's in volumes without a name, as `service:path`."""
    undeployment: uuid.UUID | None = None
    """The deployment that takes the project off the server that it was on."""


class ServiceReport(_Read):
    """One service of the project, as seen on the server."""

    service: str
    state: str
    health: str | None = None
    image: str
    restarts: int
    replaced: Replacement | None = None
    """None when nobody has seen it."""


class StageSummary(_Read):
    """What became of a stage."""

    stage: AnyStage
    change: AnyChange
    duration_ms: int


class Progress(_Read):
    """One step of a deployment. `kind` says which; what a kind doesn't tell is None."""

    version: ClassVar[Literal["1"]] = VERSION

    deployment_id: uuid.UUID
    project: ProjectSeen
    action: AnyAction = Action.DEPLOY
    kind: str
    stage: AnyStage | None = None
    attempt: int | None = None
    change: AnyChange | None = None
    duration_ms: int | None = None
    delay_ms: int | None = None
    run_at: AwareDatetime | None = None
    failure: Failure | None = None
    facts: dict[str, Any] | None = None
    lines: list[str] | None = None
    unbound_secrets: list[str] = []
    """Kind `accepted`: secrets in an old form, which any project could have used. Seal them for their project."""
    correlation: dict[str, Any] = {}


class Result(_Read):
    """The end of a deployment; exactly one for each, perhaps delivered more than once under one event id."""

    version: ClassVar[Literal["1"]] = VERSION

    deployment_id: uuid.UUID
    action: AnyAction = Action.DEPLOY
    """What was asked for; text when these workers are newer than this file."""
    outcome: AnyOutcome
    project: ProjectSeen | None = None
    repository: str | None = None
    commit: str | None = None
    server: str | None = None
    placement: Placement | None = None
    """None where the request named the server."""
    move: Move | None = None
    """None for anything but a move."""
    url: str | None = None
    failure: Failure | None = None
    missing_secret: str | None = None
    superseded_by: uuid.UUID | None = None
    serving: Serving | None = None
    """Absent when nobody could look."""
    also_on: list[str] = []
    """Other servers where it was deployed and not undeployed: it may still run there, with the same secrets."""
    exposed: list[Exposed] = []
    services: list[ServiceReport] = []
    stages: list[StageSummary] = []
    attempts: int
    accepted_at: AwareDatetime
    finished_at: AwareDatetime
    correlation: dict[str, Any] = {}


class _Told(_Read):
    specversion: Literal["1.0"]
    id: str
    source: str
    subject: str | None = None
    time: AwareDatetime | None = None
    sequence: str | None = None
    """Place among the deployment's events, ten digits, from 1 without gaps: order by it, and notice loss by it."""
    causationid: str | None = None
    """The id of the event that asked for the deployment."""
    traceparent: str | None = None


class ProgressEvent(_Told):
    """The CloudEvent around a `Progress`."""

    type: Literal[EventType.PROGRESS]
    data: Progress


class ResultEvent(_Told):
    """The CloudEvent around a `Result`."""

    type: Literal[EventType.RESULT]
    data: Result


Event = (
    ProgressEvent
    | ResultEvent
    | ProjectReadyEvent
    | HalfEvent
    | CommandEvent
    | DeploymentCancelEvent
    | ServerCordonEvent
)

_EVENTS: Mapping[str, type[Event]] = {
    EventType.PROJECT_READY: ProjectReadyEvent,
    EventType.ENGINEERING_DONE: EngineeringDoneEvent,
    EventType.RESOURCES_ALLOCATED: ResourcesAllocatedEvent,
    EventType.PROJECT_STOP: ProjectStopEvent,
    EventType.PROJECT_START: ProjectStartEvent,
    EventType.PROJECT_ROLLBACK: ProjectRollbackEvent,
    EventType.PROJECT_UNDEPLOY: ProjectUndeployEvent,
    EventType.PROJECT_MOVE: ProjectMoveEvent,
    EventType.DEPLOYMENT_CANCEL: DeploymentCancelEvent,
    EventType.SERVER_CORDON: ServerCordonEvent,
    EventType.PROGRESS: ProgressEvent,
    EventType.RESULT: ResultEvent,
}


def parse_event(body: bytes | str) -> Event:
    """Reads one event. Raises ValueError for what isn't one, or is of a type that this file doesn't know."""
    event: object = json.loads(body)
    kind = cast(dict[str, object], event).get("type") if isinstance(event, dict) else None
    model = _EVENTS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise ValueError("not an event of Slipway's that is known here; this file may be older than the workers")
    return model.model_validate(event)
