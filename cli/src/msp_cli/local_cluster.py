"""`up`, `down`, `restart` and `ps`: a cluster of local processes, from its file and its folder."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from msp_cli import cluster_file, example, preflight, readiness, starting
from msp_cli.board import Board
from msp_cli.cluster_file import Cluster
from msp_cli.run_dir import RunDir, RunState
from msp_cli.starting import StartFailed, Starting
from msp_cli.tables import cells, table

WATCH_S = 1.0


class Refused(Exception):
    """Nothing was started or changed; one line per reason."""


class Failed(Exception):
    """It was tried and did not work; what had been started is stopped again."""


@dataclass(frozen=True)
class LocalCluster:
    """A folder in which services run, and where to say what happens."""

    run: RunDir
    console: Console

    async def up(self, file: Path, *, detach: bool) -> None:
        """Start everything; return once all is healthy (`detach`), or once all is stopped again.

        Raises Refused, Failed, ClusterFileError, RunDirBusy.
        """
        cluster = cluster_file.load(file, self.run.path)
        with self.run.locked():
            if self._already_running(cluster, file):
                await self._tell_what_runs(cluster)
                return
            if found := preflight.problems(cluster):
                raise Refused("\n".join(found))
            begun = await self._start(cluster, file, list(cluster.services))
            try:
                await self._tell_what_runs(cluster)
            except (example.ExampleFailed, asyncio.CancelledError) as error:
                self._stop_everything(begun)
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise Failed(f"all services are healthy, but the example failed: {error}") from None
        if detach:
            self._say("all of it goes on in the background: msp ps tells how it is, msp down stops it")
        else:
            await self._stay(begun)

    def down(self) -> None:
        """Stop whatever runs in the folder. Raises RunDirBusy."""
        with self.run.locked():
            state = self.run.read()
            if state is None:
                self._say(f"nothing runs in {self.run.path}")
                return
            count = len(state.living())
            starting.stop_all(state, self.run, self._say)
            self._say(f"stopped {count} services")

    async def restart(self, name: str) -> None:
        """Stop one service if it runs, and start it as the cluster's file says now.

        Raises what `up` raises.
        """
        with self.run.locked():
            state = self._state()
            file = Path(state.cluster_file)
            cluster = cluster_file.load(file, self.run.path)
            if name not in cluster.services:
                raise Refused(f"there is no service {name!r}; there are {', '.join(cluster.services)}")
            running = [other for other in state.living() if other in cluster.services and other != name]
            missing = [other for other in cluster.services[name].after if other not in running]
            if missing:
                raise Refused(f"{name} needs {', '.join(missing)}, not running; restart that first")
            if name in state.services:
                starting.stop_some(state, [name], self._say)
            if found := preflight.service_problems({name: cluster.services[name]}):
                raise Refused("\n".join(found))
            await self._start(cluster, file, [name], beside=running)
            self._say(f"{name} is healthy at {cluster.services[name].url}")

    async def ps(self, *, as_json: bool) -> bool:
        """Tell what runs; whether all of it does. Raises Refused if nothing was started."""
        state = self._state()
        living = state.living()
        async with _client() as client:
            answers = await asyncio.gather(*(readiness.ask(client, s.health_url) for s in living.values()))
        doing = {
            name: "healthy" if answer.healthy else answer.doing
            for name, answer in zip(living, answers, strict=True)
        }
        if as_json:
            lines = [
                {
                    "name": name,
                    "what": service.what,
                    "pid": service.process.pid if name in living else None,
                    "url": service.url,
                    "status": doing.get(name, "not running"),
                    "log": str(self.run.log_of(name)),
                }
                for name, service in state.services.items()
            ]
            self.console.print_json(json.dumps(lines))
        else:
            self.console.print(self._table(state, doing))
        return all(doing.get(name) == "healthy" for name in state.services)

    def _state(self) -> RunState:
        state = self.run.read()
        if state is None:
            raise Refused(f"nothing runs in {self.run.path}; start it with: msp up --cluster FILE")
        return state

    def _already_running(self, cluster: Cluster, file: Path) -> bool:
        state = self.run.read()
        living = state.living() if state else {}
        if state is None:
            return False
        if not living:
            # What services that ended by themselves may have left behind: children in their groups.
            starting.stop_all(state, self.run, self._say)
            return False
        if Path(state.cluster_file) != file.resolve():
            raise Refused(f"{state.cluster_file} already runs in {self.run.path}; stop it with: msp down")
        if dead := [name for name in cluster.services if name not in living]:
            raise Refused(
                f"the cluster runs already, without {', '.join(dead)}; "
                f"bring it back with: msp restart {dead[0]} (or stop all with: msp down)"
            )
        self._say("the cluster runs already")
        return True

    async def _start(
        self, cluster: Cluster, file: Path, names: list[str], *, beside: list[str] | None = None
    ) -> Starting:
        """Start services: a whole cluster with its models, or some `beside` those that run already."""
        self.run.create()
        async with _client() as client:
            with Board(self.console, names) as board:
                begun = Starting(cluster, file, self.run, client, board, append_logs=beside is not None)
                try:
                    await begun.bring_up(names, running=beside or [], models=beside is None)
                except StartFailed as failure:
                    self._undo(begun, names)
                    raise Failed(
                        "\n".join([str(failure), *(f"  | {line}" for line in failure.log)])
                    ) from None
                except asyncio.CancelledError:
                    self._undo(begun, names)
                    raise
        return begun

    def _undo(self, begun: Starting, names: list[str]) -> None:
        """Stop what this start has started; of a restart that is one service, and the others go on."""
        state = self.run.read()
        if state is None:
            return
        mine = [name for name in state.services if name in names]
        if len(mine) == len(state.services):
            self._stop_everything(begun)
        else:
            starting.stop_some(state, mine, self._say, begun.reap)

    def _stop_everything(self, begun: Starting) -> None:
        state = self.run.read()
        if state is not None:
            self._say(f"stopping all services (what does not end within {state.stop_grace_s:g} s is killed)")
            starting.stop_all(state, self.run, self._say, begun.reap)

    async def _stay(self, begun: Starting) -> None:
        """Tell of services that end, until told to stop or until somebody else stopped them all."""
        self._say("Ctrl-C stops everything")
        told: set[str] = set()
        try:
            while (state := self.run.read()) is not None:
                begun.reap()
                # While another msp stops or restarts services, their ends are no news.
                ended = set() if self.run.busy() else set(state.services) - set(state.living())
                for name in sorted(ended - told):
                    self._say(f"{name} has ended; bring it back with: msp restart {name}")
                    self._say("\n".join(f"  | {line}" for line in self.run.last_lines(name, 5)))
                told = ended
                await asyncio.sleep(WATCH_S)
            self._say("stopped from elsewhere")
        except asyncio.CancelledError:
            with self.run.locked(wait=True):
                self._stop_everything(begun)

    async def _tell_what_runs(self, cluster: Cluster) -> None:
        state = self._state()
        self.console.print(self._table(state, dict.fromkeys(state.services, "healthy")))
        if cluster.example is None:
            return
        async with _client() as client:
            got = await example.answer(client, cluster, cluster.example)
        self.console.print(
            f"\n{example.curl_line(cluster, cluster.example)}", markup=False, highlight=False, soft_wrap=True
        )
        self.console.print_json(json.dumps(got), indent=2)

    def _table(self, state: RunState, doing: dict[str, str]) -> Table:
        shown = table("service", "what", "URL", "process", "status")
        shown.caption, shown.caption_justify = f"logs: {escape(self._log_path('NAME'))}", "left"
        for name, service in state.services.items():
            pid = str(service.process.pid) if name in doing else "-"
            shown.add_row(*cells(name, service.what, service.url, pid, doing.get(name, "not running")))
        return shown

    def _log_path(self, name: str) -> str:
        log, here = self.run.log_of(name), Path.cwd()
        return str(log.relative_to(here) if log.is_relative_to(here) else log)

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@asynccontextmanager
async def _client() -> AsyncIterator[httpx.AsyncClient]:
    # All of it is on this machine: a proxy from the environment would only be in the way.
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client
