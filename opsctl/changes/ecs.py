"""Changes to ECS services: the age of their tasks, their count, and their scaling bounds."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from opsctl.changes import raw
from opsctl.contract import Change, Done, Drifted, Evidence, Failed, Finding, InProgress, Pending, Skipped
from opsctl.errors import ExternalError, NotFound, Refused
from opsctl.permissions import Permissions, needs
from opsctl.shell import Variable, expect

if TYPE_CHECKING:
    from opsctl.adapters.aws.ecs import Container, Deployment, ServiceState, Task
    from opsctl.config import Environment
    from opsctl.protocols import ProgressCallback
    from opsctl.shell import Command, Statement
    from opsctl.systems import Systems


class ServiceChange(Change, frozen=True, kw_only=True):
    """A change to one ECS service, which configuration calls `name`."""

    target_template: ClassVar[str] = "service/{name}"

    name: str
    cluster: str
    service: str

    def _describe_command(self, environment: Environment) -> Command:
        return raw.aws(environment, "ecs", "describe-services", cluster=self.cluster, services=[self.service])

    def _update(self, environment: Environment, **how: Any) -> Command:
        return raw.aws(environment, "ecs", "update-service", cluster=self.cluster, service=self.service, **how)

    def _wait(self, environment: Environment) -> Command:
        return raw.aws(environment, "ecs", "wait services-stable", cluster=self.cluster, services=[self.service])


class Redeploy(ServiceChange, frozen=True, kw_only=True):
    """No task is older than `since`: a newer deployment completed, no older task runs, and the service is healthy."""

    permissions: ClassVar[Permissions] = needs(
        check="ecr:DescribeImages ecs:DescribeServices ecs:DescribeTaskDefinition ecs:DescribeTasks ecs:ListTasks",
        apply="ecr:DescribeImages ecs:DescribeServices ecs:DescribeTaskDefinition ecs:DescribeTasks ecs:ListTasks ecs:UpdateService",
    )
    max_parallel: ClassVar[int] = 4
    poll: ClassVar[float] = 1
    summary_template: ClassVar[str] = "redeploy {name} (replaces deployments from {since:%Y-%m-%d %H:%M:%S} UTC or earlier)"
    irreversible: ClassVar[str] = "the old tasks are stopped; the new tasks run the same task definition"

    since: datetime
    consumes: tuple[str, ...] = ()
    accept_new_image: bool = False
    health: str | None = None

    @property
    def depends_on(self) -> frozenset[str]:
        """The secrets that its tasks read at startup."""
        return frozenset(f"secret/{name}/AWSCURRENT" for name in self.consumes)

    def check(self, read: Systems) -> Finding:
        """Reads the primary deployment, then every task, then the service's health check if one is configured."""
        state = read.ecs.service(self.cluster, self.service)
        if state.desired == 0:
            return Skipped("the desired count is 0, so no task can be checked")
        primary = next(d for d in state.deployments if d.status == "PRIMARY")
        if why := _taken_back(state, primary, self.since):
            return Failed(why, state.running, "tasks")
        if primary.created <= self.since:
            images = Images.judged(self, read, state)
            images.refuse_new_code(self.name)
            note = "; ".join(filter(None, (self._unwell(read), images.note)))
            return Pending(state.running, "tasks", note, images.unseen, images.next)
        tasks = read.ecs.tasks(self.cluster, self.service)
        old = [task for task in tasks if task.deployment != primary.id]
        if state.rollout == "COMPLETED" and len(tasks) < state.running:
            return InProgress(f"ECS counts {state.running} running tasks but lists {len(tasks)}")
        if state.rollout == "COMPLETED" and not old:
            if unwell := self._unwell(read):
                return InProgress(f"every task is new, but {unwell}")
            well = "; its health check passes" if self.health else ""
            return Done(f"deployment {primary.id} completed {primary.updated:%H:%M:%S} UTC, and no older task runs{well}", primary.updated)
        event = f"; {state.events[0].message}" if state.events else ""
        known = state.rollout in ("IN_PROGRESS", "COMPLETED")
        strange = "" if known else f"ECS calls its rollout {state.rollout or 'nothing'}, a state that opsctl doesn't know; "
        return InProgress(f"{strange}{primary.running} of {primary.desired} new tasks run, {len(old)} old{event}")

    def fit(self, read: Systems) -> None:
        """Raises Refused if no image would change and the service is unhealthy anyway: waiting would not help."""
        state = read.ecs.service(self.cluster, self.service)
        primary = state.primary
        if state.desired == 0 or primary is None or primary.created <= self.since or state.rollout != "COMPLETED":
            return
        if not self._old(read, primary) and (unwell := self._unwell(read)):
            raise Refused(
                f"No task of {self.name} is old enough to be replaced, but {unwell}.",
                f"To replace the tasks anyway: opsctl service redeploy {self.name} --again",
            )

    def _old(self, read: Systems, primary: Deployment) -> list[Task]:
        return [task for task in read.ecs.tasks(self.cluster, self.service) if task.deployment != primary.id]

    def _unwell(self, read: Systems) -> str:
        """What the health check reports against the service; empty if it is healthy or has no check."""
        found = read.health(self.health) if self.health else None
        return "" if found is None or found.ok else f"its health check fails: {found.detail}"

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """UpdateService with forceNewDeployment. Compares the images again, because a failed rollout is planned without that."""
        read = write.reader
        images = Images.judged(self, read, read.ecs.service(self.cluster, self.service))
        images.refuse_new_code(self.name)
        if images.unseen:
            raise Refused(images.unseen, images.next)
        write.ecs.redeploy(self.cluster, self.service)
        return {}

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (Safawinet 1.5), with its wait. A service is also stable after a rollback."""
        primary = "deployments[?status=='PRIMARY'] | [0].id"
        return [
            raw.learn("deployment", self._update(environment, forceNewDeployment=True), f"service.{primary}"),
            self._wait(environment),
            raw.learn("now", self._describe_command(environment), f"services[0].{primary}"),
            expect(Variable("now"), Variable("deployment"), f"The rollout of {self.name} was rolled back, or another rollout replaced it."),
        ]


class Images(Struct, frozen=True):
    """The current images of a service's task definition, compared with those that its tasks run.

    `new` are images with new code, `unjudged` says why others can't be compared, `unseen` why images can't be read.
    """

    new: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    unseen: str = ""

    @classmethod
    def judged(cls, change: Redeploy, read: Systems, state: ServiceState) -> Images:
        """Compares every container's image, unless new code is accepted."""
        if change.accept_new_image:
            return cls()
        try:
            tasks = read.ecs.tasks(change.cluster, change.service, draining=False)
            if not tasks:
                return cls(unjudged=("no running task to compare the images with",))
            found = [_compared(read, each, tasks) for each in read.ecs.task_definition(state.task_definition).containers]
        except NotFound:
            raise
        except ExternalError as cause:
            return cls(unseen=f"opsctl couldn't check whether redeploying {change.name} would start a new image: {cause.what}")
        return cls(tuple(new for new, _ in found if new), tuple(dict.fromkeys(why for _, why in found if why)))

    @property
    def note(self) -> str:
        """The plan's note on images that can't be compared."""
        return f"may start a new image: {'; '.join(self.unjudged)}" if self.unjudged else ""

    @property
    def next(self) -> str:
        """How to continue without the comparison."""
        return "Get the permission, or try again. To continue without this check, add --accept-new-image" if self.unseen else ""

    def refuse_new_code(self, name: str) -> None:
        """Raise Refused where an image means new code."""
        if self.new:
            raise Refused(
                f"{'; '.join(self.new)}: redeploying {name} would start a new image.",
                "If you want that, add --accept-new-image; otherwise point the tag to the former image.",
            )


def _compared(read: Systems, container: Container, tasks: list[Task]) -> tuple[str, str]:
    """The new code in a container's image, and why it can't be compared; both are empty if nothing is new."""
    now, runs = read.ecr.digest(container.image), {task.digest(container.name) for task in tasks}
    if now is None:
        return "", f"{container.image} is not in an ECR repository that opsctl can query"
    if runs <= {None}:
        return "", f"ECS doesn't report which digest of {container.image} is running"
    other = next((run for run in runs if run and run != now), None)
    return (f"{container.image} is now {now[:19]}, but {container.name} runs {other[:19]}", "") if other else ("", "")


def _taken_back(state: ServiceState, primary: Deployment, since: datetime) -> str:
    """Why the newest rollout after `since` failed, if the circuit breaker ended it; otherwise empty.

    A rollback makes a former deployment primary again; the failed one is listed for a while, also beside a newer one.
    """
    failed = [d for d in state.deployments if d.rollout_state == "FAILED" and d.created > since and d.created >= primary.created]
    if failed:
        return f"the rollout failed: {failed[0].reason}"
    if primary.updated > since and ("rolling back" in primary.reason or "rolled back" in primary.reason):
        return f"the rollout was rolled back: {primary.reason}"
    return ""


class SetBounds(ServiceChange, frozen=True, kw_only=True):
    """The scalable target's minimum and maximum are `after`."""

    permissions: ClassVar[Permissions] = needs(
        check="application-autoscaling:DescribeScalableTargets",
        apply="application-autoscaling:RegisterScalableTarget",
    )
    target_template: ClassVar[str] = "service/{name}/bounds"
    summary_template: ClassVar[str] = "set the autoscaling bounds of {name} to {after[0]} to {after[1]} tasks"

    before: tuple[int, int]
    after: tuple[int, int]

    @property
    def needs_typed_confirmation(self) -> bool:
        """Lowering the minimum needs a typed confirmation."""
        return self.after[0] < self.before[0]

    def difference(self) -> tuple[Any, Any]:
        """Minimum and maximum."""
        return list(self.before), list(self.after)

    def check(self, read: Systems) -> Finding:
        """Compares the bounds."""
        bounds = read.autoscaling.bounds(self.cluster, self.service)
        now = (bounds.min, bounds.max) if bounds else None
        if now == self.after:
            return Done(f"the bounds are {now[0]} to {now[1]}")
        if now != self.before:
            return Drifted(f"the bounds are {now}; they were {self.before} in the plan")
        return Pending(1, "scaling bounds")

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """RegisterScalableTarget."""
        write.autoscaling.set_bounds(self.cluster, self.service, *self.after)
        return {}

    def inverse(self) -> SetBounds:
        """Restores the former bounds."""
        return SetBounds(name=self.name, cluster=self.cluster, service=self.service, before=self.after, after=self.before)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The Application Auto Scaling command, if the bounds are as reviewed."""
        scaling, id, dimension = "application-autoscaling", f"service/{self.cluster}/{self.service}", "ecs:service:DesiredCount"
        look = raw.aws(
            environment, scaling, "describe-scalable-targets", ServiceNamespace="ecs", ResourceIds=[id], ScalableDimension=dimension
        )
        where = {"ServiceNamespace": "ecs", "ResourceId": id, "ScalableDimension": dimension}
        least, most = self.after
        query = "join('-', ScalableTargets[0].[to_string(MinCapacity), to_string(MaxCapacity)])"
        return [
            *raw.as_reviewed(look, query, f"{self.before[0]}-{self.before[1]}", f"The scaling of {self.name}"),
            raw.aws(environment, scaling, "register-scalable-target", MinCapacity=least, MaxCapacity=most, **where),
        ]


class SetDesiredCount(ServiceChange, frozen=True, kw_only=True):
    """A service has a desired count of `after`, and that many tasks run."""

    permissions: ClassVar[Permissions] = needs(check="ecs:DescribeServices postgres", apply="ecs:UpdateService")
    poll: ClassVar[float] = 1
    target_template: ClassVar[str] = "service/{name}/count"
    summary_template: ClassVar[str] = "set the desired count of {name} to {after}"

    before: int
    after: int
    accept_connections: bool = False

    @property
    def needs_typed_confirmation(self) -> bool:
        """Zero needs a typed confirmation."""
        return self.after == 0

    def difference(self) -> tuple[Any, Any]:
        """The desired count."""
        return self.before, self.after

    def check(self, read: Systems) -> Finding:
        """Compares the desired count, then waits for the running count."""
        state = read.ecs.service(self.cluster, self.service)
        if state.desired == self.after:
            if state.running == self.after:
                return Done(f"desired count {self.after}; {self.after} running")
            return InProgress(f"{state.running} of {self.after} tasks run")
        if state.desired != self.before:
            return Drifted(f"the desired count is {state.desired}; it was {self.before} in the plan")
        count = abs(self.after - self.before)
        if self.after <= self.before or self.accept_connections:
            return Pending(count, "tasks")
        try:
            self._connections_suffice(read)
        except ExternalError as cause:
            unseen = f"opsctl couldn't check whether the database has enough connections for {self.after} tasks: {cause.what}"
            return Pending(count, "tasks", unguarded=unseen, next="Run it again. To continue without this check, add --accept-connections")
        return Pending(count, "tasks")

    def _connections_suffice(self, read: Systems) -> None:
        services = read.config.services
        if not services[self.name].pool_size or read.config.database is None:
            return
        wanted = self.after * services[self.name].pool_size
        for name, other in services.items():
            if name != self.name and other.pool_size:
                try:
                    wanted += read.ecs.service(other.cluster, other.service).desired * other.pool_size
                except NotFound:
                    continue
        most = int(read.database.query("SELECT current_setting('max_connections') AS most")[0]["most"])
        if wanted > most * read.config.limits.pool_share:
            raise Refused(
                f"{self.after} tasks may open {wanted} database connections, more than {read.config.limits.pool_share:.0%} of {most}.",
                "Run fewer tasks, make the pools smaller (services.NAME.pool-size), or raise max_connections. To continue anyway, add"
                " --accept-connections",
            )

    def apply(self, write: Systems, token: str, progress: ProgressCallback) -> Evidence:
        """UpdateService with a desired count."""
        write.ecs.set_desired(self.cluster, self.service, self.after)
        return {}

    def inverse(self) -> SetDesiredCount:
        """Restores the former count."""
        where = {"name": self.name, "cluster": self.cluster, "service": self.service}
        return SetDesiredCount(**where, before=self.after, after=self.before, accept_connections=self.accept_connections)

    def as_shell(self, environment: Environment) -> list[Statement]:
        """The runbook's command (Safawinet, quick reference), with its wait."""
        return [
            *raw.as_reviewed(
                self._describe_command(environment), "services[0].desiredCount", str(self.before), f"The desired count of {self.name}"
            ),
            self._update(environment, desiredCount=self.after),
            self._wait(environment),
        ]
