"""The table of routes. Each stands here with its auth class; what does not is not served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from shiftwork_coordinator.auth import Auth

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Route(msgspec.Struct, frozen=True):
    method: str
    path: str
    auth: Auth
    handler: Handler

    def __post_init__(self) -> None:
        if not isinstance(self.auth, Auth):
            raise TypeError(f"the route {self.method} {self.path} has no auth class")


def table() -> tuple[Route, ...]:
    from shiftwork_coordinator.api import (
        about,
        approvals,
        aws,
        deployments,
        groups,
        hooks,
        instances,
        join,
        launches,
        output,
        revisions,
        together,
        trust,
        upgrades,
    )
    from shiftwork_coordinator.api import tokens as token

    return (
        Route("POST", "/", Auth.AWS, aws.codedeploy),
        Route("GET", "/v1/health", Auth.PUBLIC, about.health),
        Route("GET", "/v1/ca.pem", Auth.PUBLIC, about.ca),
        Route("GET", "/metrics", Auth.VIEWER, about.metrics),
        Route("GET", "/v1/audit", Auth.ADMIN, about.audit),
        Route("POST", "/v1/join", Auth.JOIN, join.join),
        Route("POST", "/v1/join/iam", Auth.JOIN, trust.join),
        Route("POST", "/v1/trust", Auth.ADMIN, trust.add),
        Route("GET", "/v1/trust", Auth.ADMIN, trust.listed),
        Route("DELETE", "/v1/trust/{id}", Auth.ADMIN, trust.remove),
        Route("POST", "/v1/join/nonces", Auth.JOIN, join.nonce),
        Route("POST", "/v1/join/renewals", Auth.JOIN, join.renew),
        Route("POST", "/v1/join/requests", Auth.JOIN, approvals.ask),
        Route("GET", "/v1/join/requests", Auth.ADMIN, approvals.listed),
        Route("POST", "/v1/join/requests/{fingerprint}/approve", Auth.ADMIN, approvals.approve),
        Route("POST", "/v1/join/requests/{fingerprint}/deny", Auth.ADMIN, approvals.deny),
        Route("GET", "/v1/agent/link", Auth.AGENT, join.link),
        Route("GET", "/v1/agent/bundles/{identity}", Auth.AGENT, revisions.bundle),
        Route("GET", "/v1/agent/packages/{identity}", Auth.AGENT, upgrades.package),
        Route("POST", "/v1/apply", Auth.ADMIN, groups.apply),
        Route("GET", "/v1/applications", Auth.VIEWER, groups.applications),
        Route("GET", "/v1/groups/{application}/{group}", Auth.VIEWER, groups.group),
        Route("POST", "/v1/revisions", Auth.DEPLOYER, revisions.push),
        Route("PUT", "/v1/revisions/{identity}/signature", Auth.DEPLOYER, revisions.sign),
        Route("GET", "/v1/revisions", Auth.VIEWER, revisions.listed),
        Route("POST", "/v1/plan", Auth.VIEWER, deployments.plan),
        Route("POST", "/v1/deployments", Auth.DEPLOYER, deployments.create),
        Route("POST", "/v1/together", Auth.DEPLOYER, together.create),
        Route("POST", "/v1/together/plan", Auth.DEPLOYER, together.plan),
        Route("GET", "/v1/stacks/{name}", Auth.DEPLOYER, together.stack),
        Route("GET", "/v1/deployments", Auth.VIEWER, deployments.listed),
        Route("GET", "/v1/deployments/{id}", Auth.VIEWER, deployments.show),
        Route("GET", "/v1/deployments/{id}/why", Auth.VIEWER, deployments.why),
        Route("GET", "/v1/deployments/{id}/events", Auth.VIEWER, deployments.events),
        Route("GET", "/v1/deployments/{id}/logs", Auth.VIEWER, output.logs),
        Route("POST", "/v1/deployments/{id}/stop", Auth.DEPLOYER, deployments.stop),
        Route("POST", "/v1/deployments/{id}/continue", Auth.APPROVER, deployments.proceed),
        Route("POST", "/v1/deployments/{id}/rollback", Auth.DEPLOYER, deployments.rollback),
        Route("POST", "/v1/hooks/{id}", Auth.DEPLOYER, hooks.answer),
        Route("POST", "/v1/functions/{application}/{group}/{name}", Auth.DEPLOYER, hooks.publish),
        Route("GET", "/v1/instances", Auth.VIEWER, instances.listed),
        Route("GET", "/v1/launches", Auth.VIEWER, launches.listed),
        Route("POST", "/v1/instances/{name}/tags", Auth.ADMIN, instances.tag),
        Route("POST", "/v1/instances/{name}/revoke", Auth.ADMIN, instances.revoke),
        Route("POST", "/v1/packages", Auth.ADMIN, upgrades.add_package),
        Route("GET", "/v1/packages", Auth.VIEWER, upgrades.packages),
        Route("POST", "/v1/upgrades", Auth.ADMIN, upgrades.create),
        Route("GET", "/v1/upgrades", Auth.VIEWER, upgrades.listed),
        Route("GET", "/v1/upgrades/{id}", Auth.VIEWER, upgrades.show),
        Route("POST", "/v1/upgrades/{id}/stop", Auth.ADMIN, upgrades.stop),
        Route("POST", "/v1/tokens", Auth.ADMIN, token.create),
        Route("GET", "/v1/tokens", Auth.ADMIN, token.listed),
        Route("DELETE", "/v1/tokens/{id}", Auth.ADMIN, token.revoke),
    )
