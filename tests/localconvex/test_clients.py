"""The four official clients, each against a real backend."""

import pytest

from devtools.backend import Backend
from tests.localconvex.clients import ADMIN_KEY, CLIENTS, SOCKETS, Refused, call, client


@pytest.mark.parametrize("name", CLIENTS)
async def test_functions_run_and_errors_arrive(backend: Backend, name: str) -> None:
    """What an application uses every day, in one go, because a start takes longer than a call."""
    async with client(name, backend) as ask:
        await ask("mutation", "notes:add", text="first")
        assert await ask("query", "notes:list") == ["first"]
        assert await ask("action", "notes:addTwo") == "added"
        assert await ask("query", "notes:list") == ["first", "one of two", "two of two"]
        assert await ask("query", "notes:environment") == "hello"
        assert await ask.order(op="awkward")

        for kind, path in (("mutation", "notes:refuse"), ("query", "notes:refusedQuery")):
            with pytest.raises(Refused) as refused:
                await ask(kind, path, **({"text": "lost"} if kind == "mutation" else {}))
            assert refused.value.data == {"code": "refused", "count": 3}

        with pytest.raises(Refused, match="TypeError: out of tune"):
            await ask("mutation", "notes:crash")
        with pytest.raises(Refused, match="Unexpected field `colour`"):
            await ask("mutation", "notes:add", text="red", colour="red")
        with pytest.raises(Refused, match="Return value validation failed"):
            await ask("mutation", "notes:breakPromise")
        with pytest.raises(Refused, match="defined as mutation"):
            await ask("query", "notes:add", text="wrong kind")
        with pytest.raises(Refused, match="Could not find public function"):
            await ask("mutation", "notes:nothing")
        assert await ask("query", "notes:list") == ["first", "one of two", "two of two"]


@pytest.mark.parametrize("name", CLIENTS)
async def test_internal_functions_want_the_admin_key(backend: Backend, name: str) -> None:
    """They are as good as absent for everybody else."""
    async with client(name, backend) as ask:
        with pytest.raises(Refused, match="Could not find public function"):
            await ask("mutation", "notes:secret", text="hidden")
        await ask.order(op="admin", key=ADMIN_KEY)
        await ask("mutation", "notes:secret", text="hidden")
        assert await call(backend, "query", "notes:list") == ["hidden"]


@pytest.mark.parametrize("name", SOCKETS)
async def test_a_subscription_shows_each_change_and_its_own_changes(
    backend: Backend, name: str
) -> None:
    """Whoever made it: this client, another one, or the scheduler."""
    async with client(name, backend) as ask:
        await ask.order(op="subscribe", path="notes:count", args={})
        assert await ask.order(op="next") == 0
        await ask("mutation", "notes:add", text="mine")
        assert await ask.order(op="next") == 1
        await call(backend, "mutation", "notes:add", text="another's")
        assert await ask.order(op="next") == 2
        await call(backend, "mutation", "notes:remind", text="scheduled", inMs=50)
        assert await ask.order(op="next") == 3


async def test_a_subscription_runs_again_only_when_its_tables_changed(backend: Backend) -> None:
    """Half of what a queue commits has nothing to do with what is watched."""

    def runs() -> int:
        return backend.log.read_text().count("notes:watched: [log] running")

    async with client("javascript socket", backend) as ask:
        await ask.order(op="subscribe", path="notes:watched", args={})
        assert await ask.order(op="next") == 0
        for _ in range(5):
            await call(backend, "mutation", "ticks:add")
        assert runs() == 1
        await call(backend, "mutation", "notes:add", text="watched")
        assert await ask.order(op="next") == 1
        assert runs() == 2
