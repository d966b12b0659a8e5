"""From a configuration to a listening server and back; every way out releases what was acquired."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from s3lora_serve.control.safety_changes import write_safety_changes
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import EngineError, S3LoRAError
from s3lora_serve.fleet.states import DeploymentState
from s3lora_serve.launch.admit_all import admit_fleet
from s3lora_serve.launch.banner import show_planners
from s3lora_serve.launch.engine_choice import start_engine
from s3lora_serve.launch.phases import Phases
from s3lora_serve.launch.reload import read_again
from s3lora_serve.launch.resolve import to_engine_settings, to_guards, to_http_limits, to_recorded
from s3lora_serve.launch.safety.fleet_exams import FleetExams
from s3lora_serve.launch.safety.fleet_guards import FleetGuards, endpoint_keys
from s3lora_serve.launch.safety.judged_callers import check_judged, shown_key
from s3lora_serve.launch.servers import Server, address, announced, make_token, serve_both
from s3lora_serve.launch.sockets import bound, listen, room_for_connections
from s3lora_serve.safety.guard.guard_facts import guard_test_line
from s3lora_serve.storage.daemon_threads import DaemonThreads
from s3lora_serve.terminal.console import Stages, check_signal, say

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from s3lora_serve.config import Config
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.control.journal.reconciliation import Reconciled
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.engine.vllm.vllm_settings import VllmSettings
    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.fleet.planner import DesiredPlanner, Planner
    from s3lora_serve.launch.admit_all import AdmittedFleet
    from s3lora_serve.launch.resolve import BaseModel
    from s3lora_serve.service.planner_service import PlannerService
    from s3lora_serve.service.service_exams import ExamSetup
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor

    StartEngine = Callable[[VllmSettings, Callable[[str], None]], Awaitable[Engine]]

log = logging.getLogger(__name__)


async def launch(
    config: Config,
    path: Path,
    environ: Mapping[str, str],
    start: StartEngine | None = None,
    *,
    engine: EngineKind = EngineKind.VLLM,
    declared: Config | None = None,
    new_state: bool = False,
    accept_state: bool = False,
) -> None:
    """Serve until a signal comes. ``path`` is where the configuration can be read again, ``declared`` what
    was read there, if options changed it since; ``start`` makes the engine, by default one of the kind
    ``engine``. ``new_state``: serve from a store whose fleet's state is not here. ``accept_state``: the
    state file's tables are right where the journal proves something else.

    Raises ConfigError before anything heavy is begun, StateError and StoreError if another server runs on the
    same state or another kind of engine used it, AdapterError if a planner was refused, EngineError if the
    engine fails or one planner cannot be served, but for planners that are withheld: by the journal, which
    proves something else of them, or by their exam.
    """
    from s3lora_serve.adapters.store import RevisionStore
    from s3lora_serve.adapters.store_fleets import check_fleet, claim_fleet
    from s3lora_serve.control.journal.head_notes import HeadNotes
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.control.journal.reconciliation import reconcile
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor

    keys = config.server.keys(environ)
    for unjudged in check_judged(config, keys):
        log.warning("%s", unjudged)
    guard_keys = endpoint_keys(config, environ)
    fleet_exams = FleetExams(config)
    token = config.admin.token(environ)
    with (
        _hangups() as hangup,
        bound(config.server.host, config.server.port) as clients,
        bound(config.admin.host, config.admin.port) as operators,
        Journal(config.state.path, engine=engine) as journal,
    ):
        RevisionStore(config.store.path, engine)  # of another kind of engine it is no matter whose it is
        if not new_state:
            check_fleet(config.store.path, journal.path, str(journal.fleet), used=journal.last.seq > 0)
        found = reconcile(
            journal,
            config.planners,
            last_proved=config.state.on_mismatch == "serve_last_proved",
            accept=accept_state,
        )
        # On a thread of its own, which a signal leaves behind: a source may never answer.
        admitting = DaemonThreads("start", 1)
        records = found.records(journal.planner_rows())
        fleet = await admitting.run(admit_fleet, config, records, engine, found.withheld)
        settings = to_engine_settings(config, fleet.base, fleet.max_lora_rank)
        begin = start or partial(start_engine, engine)
        started = False

        async def make() -> Engine:
            if started:
                return await begin(settings, host.stage)
            with Stages("engine", keep=True) as stage:
                first = await begin(settings, stage)
                stage.note = f"{first.version}, {first.capacity} adapters up to rank {fleet.max_lora_rank}"
                if config.engine.max_lora_rank is None:
                    stage.note += ", the smallest that fits (engine.max_lora_rank is not set)"
                if first.lora_kernels is not None:
                    stage.note += f"; {first.lora_kernels}"
                return first

        host = EngineSupervisor(
            make,
            watchdog_seconds=config.engine.watchdog_seconds,
            load_seconds=config.slots.load_seconds,
        )
        await host.start()
        started = True
        try:
            async with AsyncExitStack() as owned:
                guards = await owned.enter_async_context(
                    FleetGuards(config, guard_keys, lambda: host.current)
                )
                exams = owned.enter_context(fleet_exams.opened(fleet.base, lambda: host.current))
                reread = partial(read_again, path, declared or config)
                service = await _bring_up(host, journal, fleet, config, reread, found, guards, exams)
                claim_fleet(config.store.path, str(journal.fleet))
                try:
                    async with HeadNotes(journal, config.state).given():
                        await _serve(service, config, keys, token, clients, operators, hangup, guards)
                finally:
                    await service.close()
        finally:
            await host.close()


async def _bring_up(
    host: EngineSupervisor,
    journal: Journal,
    fleet: AdmittedFleet,
    config: Config,
    read: Callable[[], Mapping[str, DesiredPlanner]],
    found: Reconciled,
    guards: FleetGuards,
    exams: ExamSetup,
) -> PlannerService:
    from s3lora_serve.service.planner_service import CHECKS, PlannerService

    loading = True

    def watch(deployment: Deployment) -> None:
        if loading:
            stage(f"{deployment.planner}: {deployment.state}")
        else:
            log.debug("%s: %s", deployment.key, deployment.state)

    with Stages("load", keep=True) as stage:
        service = PlannerService(
            host,
            journal,
            fleet.admission,
            base_model=fleet.base.name,
            slots=config.slots,
            checks=[check for check in CHECKS if config.swap.trial or check.name != "trial"],
            swap=config.swap,
            rules=config.rollback,
            read=read,
            watch=watch,
            max_text=config.plans.max_text,
            guards=guards.guards,
            exams=exams,
        )
        guards.count(service.metrics.guard)
        await service.start(fleet.desired, fleet.revisions, found)
        planners = service.planners()
        if down := [planner for planner in planners if not (planner.up or planner.alias.withheld)]:
            reasons = "".join(f"\n  {planner.name}: {planner.active.reason}" for planner in down)
            raise EngineError(f"{len(down)} of {len(planners)} planners cannot be served:{reasons}")
        stage.note = _proved(planners)
    loading = False
    await _prove_base(service, fleet.base, config, guards)
    await service.commit()
    guards_of = {name: to_recorded(config.guard_of(name)) for name in config.planners}
    exams_of = {name: to_recorded(config.exam_of(name)) for name in config.planners}
    await service.threads.journal.run(write_safety_changes, journal, "guard", guards_of)
    await service.threads.journal.run(write_safety_changes, journal, "exam", exams_of)
    return service


async def _prove_base(service: PlannerService, base: BaseModel, config: Config, guards: FleetGuards) -> None:
    """Ask the base model what a guard has to refuse, if it is one. Raises ConfigError, EngineError."""
    if not guards.base_asked:
        return
    from s3lora_serve.launch.safety.base_tests import base_tests

    kept = config.state.path.parent / "guard_self_test.json"
    held = [planner.active.slot for planner in service.planners()]
    slots = [slot for slot in held if slot is not None]
    with Stages("guard", keep=True) as stage:
        found = await base_tests(
            to_guards(config).values(), service.engine, service.engine_kind, slots, base, kept, stage
        )
        guards.tested(found)
        stage.note = guard_test_line(found)


def _proved(planners: Sequence[Planner]) -> str:
    """What the start came to: with more planners than slots, some had to make room again."""
    if withheld := [planner.name for planner in planners if planner.alias.withheld]:
        planners = [planner for planner in planners if not planner.alias.withheld]
        return f"{len(planners)} planners proved; not served: {', '.join(withheld)}"
    loaded = sum(planner.active.state is not DeploymentState.EVICTED for planner in planners)
    if loaded == len(planners):
        return f"{loaded} planners loaded and proved to change the answers"
    return f"{len(planners)} planners proved, {loaded} loaded; the rest are loaded on demand"


async def _serve(
    service: PlannerService,
    config: Config,
    keys: Mapping[str, str],
    token: str | None,
    clients: socket.socket,
    operators: socket.socket,
    hangup: asyncio.Event,
    guards: FleetGuards,
) -> None:
    from s3lora_serve.server.access.access_log import unread
    from s3lora_serve.server.admin.admin_app import create_admin_app
    from s3lora_serve.server.app import create_app

    url, admin_url = address(clients), address(operators)
    secret = token or make_token()
    refused = partial(unread, service.metrics)
    of_clients, of_operators = to_http_limits(config.server, room_for_connections(), refused)
    public = Server(
        create_app(service, config.server, keys, config.plans),
        lambda: show_planners(
            service.planners(),
            url,
            lambda planner: shown_key(config, planner, keys),
            admin_url,
            service.engine_kind,
            guards.guards.settings,
            lambda planner: service.exams.facts(planner.active),
        ),
        of_clients,
    )
    admin = Server(create_admin_app(service, secret, guards.report), lambda: None, of_operators)
    check_signal()
    listen(clients)
    listen(operators)
    # A token from the environment is known to its users, and does not belong on the disk.
    with announced(config.state.admin_file, admin_url, secret if token is None else "", url):
        reloads = asyncio.create_task(_reloads(service, hangup))
        try:
            phases = Phases((public, admin), service.stop, config.server.notice_seconds, config.grace_seconds)
            await serve_both((public, clients), (admin, operators), phases)
        finally:
            reloads.cancel()
    say("stopped")


@contextmanager
def _hangups() -> Iterator[asyncio.Event]:
    """An event that SIGHUP sets, during the start too: by default the signal would end the process."""
    hangup, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    try:
        yield hangup
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _reloads(service: PlannerService, hangup: asyncio.Event) -> None:
    """Reload for each SIGHUP, one after the other: what is edited during a reload comes with the next one."""
    while True:
        await hangup.wait()
        hangup.clear()
        await _reload(service)


async def _reload(service: PlannerService) -> None:
    """What SIGHUP does: apply planners.yaml, and say what came of it."""
    from s3lora_serve.control.operation import Order, Step

    try:
        operation = await service.control.reload(Order(actor="SIGHUP"))
        while not operation.step.ended:
            operation = await service.control.wait(operation.id, 60.0)
    except S3LoRAError as error:
        _nothing_applied(str(error))
        return
    except Exception:  # the next one must be heard all the same
        log.exception("SIGHUP: failed unexpectedly")
        return
    changes = operation.details.get("changes", [])
    if operation.step is Step.DONE:
        say(f"SIGHUP: applied {len(changes)} changes ({operation.id})" if changes else "SIGHUP: no change")
    else:
        _nothing_applied(str((operation.error or {}).get("message", operation.step)))


def _nothing_applied(why: str) -> None:
    """Log it; each problem of a planners.yaml has a line of its own."""
    first, *more = why.splitlines()
    log.error("SIGHUP: nothing was applied: %s", first, extra={"lines": more})
