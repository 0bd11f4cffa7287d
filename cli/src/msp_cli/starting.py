"""Bringing services up: each as soon as those it waits for are healthy, and the models beside them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from msp_cli import processes, readiness
from msp_cli.board import Board
from msp_cli.cluster_file import Cluster, ModelSpec
from msp_cli.job_following import follow
from msp_cli.registry_api import RegistryApi, ServiceAnsweredBadly
from msp_cli.run_dir import RunDir, RunningService, RunState
from msp_common.contracts.jobs import ImportRequest, Job, JobState

POLL_S = 0.3


class StartFailed(Exception):
    """Something did not come up; `log` is the end of what the service at fault wrote."""

    def __init__(self, message: str, log: list[str] | None = None) -> None:
        super().__init__(message)
        self.log = log or []


@dataclass(frozen=True)
class _OnBoard:
    """Shows an import beside the services that start."""

    board: Board
    label: str

    def tell(self, job: Job) -> None:
        self.board.show(self.label, job.state.lower(), job.progress)

    def away(self, job: Job, why: str) -> None:
        # Told by the board's line of the registry itself.
        pass


@dataclass
class Starting:
    """One start of a cluster, or of some of its services. `children` are the processes begun by it."""

    cluster: Cluster
    cluster_file: Path
    run: RunDir
    client: httpx.AsyncClient
    board: Board
    append_logs: bool = False
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._healthy = {name: asyncio.Event() for name in self.cluster.services}
        self._waves = self.cluster.waves()

    async def bring_up(self, names: list[str], *, running: list[str], models: bool) -> None:
        """Start these services and wait until all are healthy; `running` ones count as healthy.

        With `models`, the cluster's models are imported as soon as the registry is healthy. Raises
        StartFailed; what has been started until then is still running.
        """
        for name in running:
            self._healthy[name].set()
        try:
            async with asyncio.timeout(self.cluster.start_timeout_s):
                await self._all_at_once(names, models)
        except TimeoutError:
            late = ", ".join(name for name in names if not self._healthy[name].is_set())
            raise StartFailed(
                f"not healthy within {self.cluster.start_timeout_s:g} s: {late or 'the import of models'}"
            ) from None

    async def _all_at_once(self, names: list[str], models: bool) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(self._start(name))
                for model_id, model in self.cluster.models.items() if models else ():
                    group.create_task(self._import(model_id, model))
        except* StartFailed as failures:
            raise _first(failures) from None

    def reap(self) -> None:
        """Take note of children that ended, so that they do not stay behind as zombies."""
        for child in self.children.values():
            child.poll()

    async def _start(self, name: str) -> None:
        service = self.cluster.services[name]
        for other in service.after:
            if not self._healthy[other].is_set():
                self.board.show(name, f"waiting for {other}")
                await self._healthy[other].wait()
        self.board.show(name, "starting")
        self.children[name] = child = self._spawn(name)
        while True:
            if child.poll() is not None:
                raise StartFailed(
                    f"{name} ended during its start, {_exit(child.returncode)}",
                    self.run.last_lines(name, 20),
                )
            now = await readiness.ask(self.client, service.health_url)
            # A stranger may answer on the port of a child that just failed to get it.
            if now.healthy and child.poll() is None:
                self.board.show(name, "healthy")
                self._healthy[name].set()
                return
            self.board.show(name, now.doing, now.progress)
            await asyncio.sleep(POLL_S)

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        service = self.cluster.services[name]
        child = processes.start(
            [sys.executable, "-P", "-m", service.module_name],
            environ={**os.environ, **self.cluster.env, **service.environment(name)},
            cwd=self.run.path,
            log=self.run.log_of(name),
            append=self.append_logs,
        )
        # A child that ended already keeps its number until it is reaped, so this cannot be somebody else.
        identity = processes.identify(child.pid)
        if identity is not None:
            self._note(
                name,
                RunningService(
                    process=identity,
                    what=service.what,
                    url=service.url,
                    health_url=service.health_url,
                    wave=self._waves[name],
                ),
            )
        return child

    def _note(self, name: str, running: RunningService) -> None:
        state = self.run.read() or RunState(
            cluster_file=str(self.cluster_file.resolve()), stop_grace_s=self.cluster.stop_grace_s
        )
        self.run.write(state.model_copy(update={"services": {**state.services, name: running}}))

    async def _import(self, model_id: str, model: ModelSpec) -> None:
        label = f"model {model_id}"
        self.board.show(label, f"waiting for {self.cluster.registry}")
        await self._healthy[self.cluster.registry].wait()
        environ = {**os.environ, **self.cluster.env, **self.cluster.services[self.cluster.registry].env}
        url = self.cluster.services[self.cluster.registry].url
        api = RegistryApi(self.client, url, environ.get("REGISTRY_ADMIN_TOKEN"))
        try:
            request = ImportRequest(source=model.folder, revision=model.revision)
            job = await api.import_source(model_id, request)
            ended = await follow(api, job, _OnBoard(self.board, label), patience_s=0, pause_s=POLL_S)
        except ServiceAnsweredBadly as error:
            raise StartFailed(f"model {model_id}: {error}", self._registry_log()) from None
        if ended.state is not JobState.SUCCEEDED:
            why = ended.error.message if ended.error else ended.state
            raise StartFailed(f"model {model_id} was not imported: {why}", self._registry_log())
        self.board.show(label, "imported")

    def _registry_log(self) -> list[str]:
        return self.run.last_lines(self.cluster.registry, 10)


def stop_all(
    state: RunState, run: RunDir, say: Callable[[str], None], reap: Callable[[], None] = lambda: None
) -> None:
    """Stop what the state lists, dependants first, and forget it."""
    for wave in sorted({s.wave for s in state.services.values()}, reverse=True):
        _stop({n: s for n, s in state.services.items() if s.wave == wave}, state.stop_grace_s, say, reap)
    run.forget()


def stop_some(
    state: RunState,
    names: Iterable[str],
    say: Callable[[str], None],
    reap: Callable[[], None] = lambda: None,
) -> None:
    """Stop these services. They stay listed: that they do not run any more is seen by looking."""
    _stop({name: state.services[name] for name in names}, state.stop_grace_s, say, reap)


def _stop(
    services: Mapping[str, RunningService],
    grace_s: float,
    say: Callable[[str], None],
    reap: Callable[[], None],
) -> None:
    processes.stop({n: s.process for n, s in services.items()}, grace_s, say, reap)


def _first(failures: BaseExceptionGroup[StartFailed]) -> StartFailed:
    """The failure to tell of: services that failed at the same moment mostly fail for one reason."""
    first = failures.exceptions[0]
    return first if isinstance(first, StartFailed) else _first(first)


def _exit(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"with exit code {code}"
