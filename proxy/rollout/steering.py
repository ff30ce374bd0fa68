"""Steering: the state of the migration in force in this process, kept, shared and followed."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from proxy.background import Background
from proxy.clock import Clock
from proxy.errors import ProxyError, StoreError
from proxy.rollout.shared_state import NewerStateError, SharedState
from proxy.rollout.split import Split
from proxy.rollout.state import Cause, MigrationState, merge, rolled_back, with_settings
from proxy.rollout.state_codec import tag_of

log = structlog.get_logger(__name__)

Transition = Callable[[MigrationState], MigrationState]
Listener = Callable[[MigrationState], None]
Done = Callable[[MigrationState, MigrationState], None]

_BETWEEN_ACKS_S = 0.02
_UNTOUCHED = MigrationState()


@dataclass(frozen=True, slots=True)
class Dealing:
    """What a split needs besides the percent. See Split."""

    identity: str | None = None
    salt: str = ""


class Steering:
    """What is in force is what this process knows to be newest, its file and Redis together.

    Workers of one machine have a third place in common, `workers`, which lasts
    as long as their supervisor: there they meet when the disk is full.

    A change is in the file before it is answered, else it is refused and
    nothing has changed; then in Redis, then in force in every process that
    follows, for which it waits `settle_s` at most. An urgent one is in force
    here before anything else and is kept as soon as that can be done.
    A caller who goes away in the middle of a change does not undo it.
    """

    def __init__(
        self,
        file: SharedState,
        shared: SharedState | None,
        background: Background,
        clock: Clock,
        *,
        workers: SharedState | None = None,
        process: str,
        percent: float,
        shadow_rate: float,
        dealing: Dealing = Dealing(),
        poll_s: float = 0.2,
        settle_s: float = 1.0,
    ) -> None:
        places = {"file": file, "redis": shared, "workers": workers}
        self._places: Mapping[str, SharedState] = {
            name: place for name, place in places.items() if place is not None
        }
        self._background = background
        self._clock = clock
        self._process = process
        self._settings = (percent, shadow_rate)
        self._dealing = dealing
        self._poll_s = poll_s
        self._settle_s = settle_s
        self._listeners: list[Listener] = []
        self._changing = asyncio.Lock()
        self._lost: set[str] = set()
        # By place: the tag of what was there when it was last looked at.
        self._seen: dict[str, str | None] = {}
        # By place: when nothing was found there last, on the monotonic clock.
        self._empty_at: dict[str, float] = {}
        self._known = _UNTOUCHED
        self._take(_UNTOUCHED)

    @property
    def state(self) -> MigrationState:
        """In force here."""
        return self._state

    @property
    def split(self) -> Split:
        return self._split

    @property
    def is_kept(self) -> bool:
        """Whether the file has what is in force: not so after an urgent change on a full disk."""
        return self._seen.get("file") == self._tag

    def listen(self, listener: Listener) -> None:
        """Have `listener` called at once when what is in force changes, wherever that came from."""
        self._listeners.append(listener)

    async def start(self, *, is_damaged: Callable[[], bool], has_legacy: bool) -> None:
        """Take what was kept in force. NewerStateError when a newer version wrote the file.

        Where the file was damaged or cannot be read and nobody else knows better,
        what it says may be a rollback: all goes to the legacy, where there is one.
        """
        doubt, error = "", ""
        try:
            found = await self._places["file"].read()
        except NewerStateError:
            raise
        except StoreError as caught:
            doubt, error = "the state file cannot be read", str(caught)
        else:
            if found is not None:
                self._seen["file"] = tag_of(found)
                self._adopt(found)
            if is_damaged():
                doubt = "the state file was damaged"
        rolls_back = not await self._heard_elsewhere() and has_legacy and bool(doubt)
        if doubt:
            log.error("state_not_known", why=doubt, error=error, is_rolled_back=rolls_back)
        if rolls_back:
            cause = Cause("proxy", f"{doubt}: what it held is not known", self._clock.now())
            await self.change(lambda state: rolled_back(state, cause), is_urgent=True)

    async def _heard_elsewhere(self) -> bool:
        """Whether any place but the file knew a state. It is in force then."""
        found: list[MigrationState] = []
        for name in self._places.keys() - {"file"}:
            with suppress(StoreError):
                found += filter(None, [await self._places[name].read()])
        for state in found:
            self._adopt(state)
        return bool(found)

    async def change(
        self, transition: Transition, *, is_urgent: bool = False, done: Done | None = None
    ) -> MigrationState:
        """The state in force afterwards.

        A `transition` that returns what it was given changes nothing. `done`
        hears of the change as soon as it is in force, whatever becomes
        of the caller: what was in force before, and what is now. Raises what
        `transition` raises (ConflictError), and StoreError when the file
        cannot be written and the change can wait.
        """
        if is_urgent:
            # Before any await: the next request of this process sees it.
            self._apply(transition, done)
            work = self._spread()
        else:
            work = self._change(transition, done)
        error = await asyncio.shield(self._background.spawn(work, name="change of the migration"))
        if error is not None:
            raise error
        return self._state

    async def follow(self) -> None:
        """Take in force what others change, and give them what they lack. Endless."""
        # Each place for itself: a disk that hangs does not keep Redis from being heard.
        try:
            async with asyncio.TaskGroup() as group:
                for name in self._places:
                    group.create_task(self._follow(name))
        finally:
            # Nobody need wait for a process that leaves.
            for place in self._places.values():
                with suppress(StoreError):
                    await place.forget([self._process])

    async def _follow(self, name: str) -> None:
        while True:
            await self._meet(name)
            await asyncio.sleep(self._poll_s)

    async def _change(self, transition: Transition, done: Done | None) -> ProxyError | None:
        # An error is what this returns: one that is raised here counts as nobody's.
        async with self._changing:
            # What others have changed a moment ago decides what may be changed now.
            for name in self._places:
                await self._meet(name)
            before = self._state
            try:
                changed = transition(before)
                if changed is not before:
                    await self._write("file", _bare(changed))
            except ProxyError as error:
                return error
            if done is not None:
                done(before, self._state)
        if changed is not before:
            await self._spread()
        return None

    def _apply(self, transition: Transition, done: Done | None) -> None:
        before = self._state
        self._adopt(_bare(transition(before)))
        if done is not None:
            done(before, self._state)

    async def _spread(self) -> ProxyError | None:
        """Have what is in force here kept, shared and in force everywhere, as far as can be."""
        # At once, not one after the other: a disk that hangs does not hold up the others.
        await asyncio.gather(*(self._meet(name) for name in self._places))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settle_s):
                if self._empty_at:
                    # Who follows a file that was not there is not known from it yet.
                    known_at = max(self._empty_at.values()) + 2 * self._poll_s
                    await asyncio.sleep(known_at - self._clock.monotonic())
                await asyncio.gather(*(self._settled(name) for name in self._places))
            return None
        await self._give_up_on_the_late()
        return None

    async def _meet(self, name: str) -> None:
        """Both have the same afterwards, if the place can be asked at all."""
        place = self._places[name]
        try:
            tag = await place.follow(self._process, self._tag)
            if tag is None:
                self._empty_at[name] = self._clock.monotonic()
            if tag == self._tag:
                self._seen[name] = tag
            else:
                await self._exchange(name, tag)
                await place.follow(self._process, self._tag)
        except StoreError as error:
            if name not in self._lost:
                self._lost.add(name)
                log.warning("state_not_shared", where=name, error=str(error))
        else:
            if name in self._lost:
                self._lost.discard(name)
                log.info("state_shared_again", where=name)

    async def _exchange(self, name: str, tag: str | None) -> None:
        if self._known.version:
            self._seen[name] = tag
            await self._write(name, self._known)
        elif self._seen.get(name) != tag:
            found = await self._places[name].read()
            self._seen[name] = tag
            if found is not None:
                self._adopt(found)

    async def _write(self, name: str, state: MigrationState) -> None:
        kept = await self._places[name].write(state)
        self._seen[name] = tag_of(kept)
        self._adopt(kept)

    async def _settled(self, name: str) -> None:
        """Wait until all who follow there have what is in force here."""
        with suppress(StoreError):
            while await self._late(name):  # noqa: ASYNC110 (another process fires no event)
                await asyncio.sleep(_BETWEEN_ACKS_S)

    async def _late(self, name: str) -> list[str]:
        if name in self._lost:
            # What could not be put there nobody can have from there.
            return []
        followers = await self._places[name].followers()
        # This process has it, and a place that fails would never tell so.
        wanted, own = self._known.version, self._process
        return [who for who, version in followers.items() if version < wanted and who != own]

    async def _give_up_on_the_late(self) -> None:
        for name, place in self._places.items():
            with suppress(StoreError):
                if late := await self._late(name):
                    log.warning("followers_late", where=name, processes=late)
                    # One that is alive is there again as soon as it follows.
                    await place.forget(late)

    def _adopt(self, state: MigrationState) -> None:
        # Never back: what is known here already counts as well.
        merged = merge(self._known, state)
        if merged != self._known:
            self._take(merged)

    def _take(self, known: MigrationState) -> None:
        self._known = known
        self._tag = tag_of(known) if known.version else None
        self._state = with_settings(known, *self._settings)
        dealing = self._dealing
        self._split = Split(self._state.percent_in_force, dealing.identity, dealing.salt)
        for listener in self._listeners:
            listener(self._state)

    def __repr__(self) -> str:
        state = self._state
        return f"<Steering {state.percent_in_force:g} % version={state.version}>"


def _bare(state: MigrationState) -> MigrationState:
    """Without what only this process's settings say: they are its own, not to be kept or shared."""
    return with_settings(state, _UNTOUCHED.percent, _UNTOUCHED.shadow_rate)
