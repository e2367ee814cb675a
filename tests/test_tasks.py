"""create_task and futures: CPython's own classes, scheduled by the loop under test."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys

import ironloop
import pytest


async def answer(value=42):
    await asyncio.sleep(0)
    return value


def test_tasks_and_futures_are_cpythons_own(run, loop):
    async def main():
        task = loop.create_task(answer())
        assert type(task) is asyncio.Task
        assert type(loop.create_future()) is asyncio.Future
        assert task.get_loop() is loop
        assert task in asyncio.all_tasks()
        return await task

    assert run(main) == 42


def test_classes_that_replace_asyncios_are_used(run, loop, monkeypatch):
    """As debuggers and tracers do."""

    class Traced(asyncio.Task):
        pass

    class Watched(asyncio.Future):
        pass

    async def main():
        monkeypatch.setattr("asyncio.tasks.Task", Traced)
        monkeypatch.setattr("asyncio.futures.Future", Watched)
        task = loop.create_task(answer())
        assert type(task) is Traced
        assert type(loop.create_future()) is Watched
        assert await task == 42
        monkeypatch.undo()
        assert type(loop.create_future()) is asyncio.Future

    run(main)


def test_a_task_has_the_name_it_is_given(run, loop):
    async def main():
        assert loop.create_task(answer(), name="mine").get_name() == "mine"
        assert loop.create_task(answer()).get_name().startswith("Task-")
        assert asyncio.create_task(answer(), name="other").get_name() == "other"
        await asyncio.sleep(0.001)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_a_task_runs_in_the_context_it_is_given(run, loop):
    variable = contextvars.ContextVar("variable", default=0)

    async def change():
        variable.set(5)
        await asyncio.sleep(0)
        assert variable.get() == 5

    async def main():
        context = contextvars.copy_context()
        await loop.create_task(change(), context=context)
        assert context[variable] == 5
        assert variable.get() == 0

    run(main)


def test_every_task_has_a_context_of_its_own(run):
    variable = contextvars.ContextVar("variable", default=0)

    async def change(value):
        variable.set(value)
        for _ in range(5):
            await asyncio.sleep(0)
            assert variable.get() == value

    async def main():
        await asyncio.gather(*(change(value) for value in range(20)))
        assert variable.get() == 0

    run(main)


def test_unknown_keywords_are_refused_or_passed_to_the_factory(loop):
    coroutine = answer()
    with pytest.raises(TypeError):
        loop.create_task(coroutine, colour=1)
    coroutine.close()
    with pytest.raises(TypeError):
        loop.create_task()
    with pytest.raises(TypeError):
        loop.create_task(print)


def test_a_closed_loop_creates_no_task(loop):
    loop.close()
    coroutine = answer()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coroutine)
    coroutine.close()


def test_a_task_factory_makes_the_tasks(run, loop):
    made = []

    class MyTask(asyncio.Task):
        pass

    def factory(loop, coro, **kwargs):
        made.append(kwargs)
        return MyTask(coro, loop=loop, **kwargs)

    async def main():
        task = loop.create_task(answer(), name="mine")
        assert isinstance(task, MyTask)
        assert task.get_name() == "mine"
        return await task

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    assert run(main) == 42
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    with pytest.raises(TypeError):
        loop.set_task_factory(1)


def test_a_task_factory_that_raises_raises_to_the_caller(loop):
    def factory(*_arguments, **_keywords):
        raise ZeroDivisionError

    loop.set_task_factory(factory)
    coroutine = answer()
    with pytest.raises(ZeroDivisionError):
        loop.create_task(coroutine)
    coroutine.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_eager_tasks_start_at_once(run, loop):
    seen = []

    async def note():
        seen.append("started")
        await asyncio.sleep(0)
        seen.append("ended")

    async def main():
        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(note())
        assert seen == ["started"]
        await task
        loop.set_task_factory(None)

    run(main)
    assert seen == ["started", "ended"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="new in Python 3.14")
def test_a_single_task_may_be_eager(run, loop):
    async def main():
        seen = []

        async def note():
            seen.append(1)

        await loop.create_task(note(), eager_start=True)
        assert seen == [1]

    run(main)


def test_an_override_of_call_soon_sees_the_steps_of_tasks(loop_factory):
    base = loop_factory()
    base.close()

    class Tracing(type(base)):
        steps = 0

        def call_soon(self, callback, *args, context=None):
            Tracing.steps += 1
            return super().call_soon(callback, *args, context=context)

    loop = Tracing()
    assert loop.run_until_complete(answer()) == 42
    loop.close()
    assert Tracing.steps >= 2


def test_an_override_of_create_task_is_used_by_asyncio(loop_factory):
    base = loop_factory()
    base.close()

    class Naming(type(base)):
        def create_task(self, coro, **kwargs):
            task = super().create_task(coro, **kwargs)
            task.set_name("overridden")
            return task

    loop = Naming()

    async def main():
        return asyncio.current_task().get_name()

    assert loop.run_until_complete(main()) == "overridden"
    loop.close()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_a_task_group_waits_and_cancels(run):
    async def main():
        seen = []

        async def sleeper():
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        async def fail():
            await asyncio.sleep(0)
            raise ValueError("one")

        with pytest.raises(BaseExceptionGroup) as raised:  # noqa: F821
            async with asyncio.TaskGroup() as group:
                group.create_task(sleeper())
                group.create_task(fail())
        assert [type(e) for e in raised.value.exceptions] == [ValueError]
        assert seen == ["cancelled"]

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_a_task_group_hands_on_names_and_contexts(run):
    variable = contextvars.ContextVar("variable", default=0)

    async def change():
        variable.set(variable.get() + 1)
        return asyncio.current_task().get_name()

    async def main():
        context = contextvars.copy_context()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(change(), name=f"number {n}", context=context) for n in range(3)]
        assert [task.result() for task in tasks] == ["number 0", "number 1", "number 2"]
        assert context[variable] == 3
        assert variable.get() == 0

    run(main)


def test_timeouts_and_waits(run):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1000), 0.001)
        done, pending = await asyncio.wait([asyncio.ensure_future(answer(n)) for n in range(10)])
        assert sorted(task.result() for task in done) == list(range(10))
        assert not pending
        assert await asyncio.gather(*(answer(n) for n in range(100))) == list(range(100))
        assert await asyncio.shield(answer(1)) == 1

    run(main)


def test_reprs_of_tasks_and_futures_are_cpythons():
    import ironloop

    texts = []
    for loop in (asyncio.SelectorEventLoop(), ironloop.new_event_loop()):

        async def main():
            task = asyncio.create_task(answer(), name="T")
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(print)
            text = [repr(task), repr(future)]
            await asyncio.sleep(0)
            text.append(repr(task).split(" wait_for")[0])
            await task
            return [*text, repr(task), repr(asyncio.current_task()).split(" cb=")[0]]

        texts.append([text.split(" at 0x")[0] for text in loop.run_until_complete(main())])
        loop.close()
    first, second = texts
    assert [t.split("Task-")[0] for t in first] == [t.split("Task-")[0] for t in second]


def test_what_asyncio_schedules_and_forgets_gets_no_handle():
    """asyncio's C code throws the handle away, so none is made; the callback still runs, in its place and context."""
    variable = contextvars.ContextVar("variable", default="outside")
    order = []

    def handles():
        return sum(type(found) is ironloop._native.Handle for found in gc.get_objects())

    async def waiting(future):
        variable.set("inside")
        order.append(("task", await future, variable.get()))

    def done(future):
        order.append(("callback", future.result(), variable.get()))

    with contextlib.closing(ironloop.new_event_loop()) as loop:
        future = loop.create_future()
        before = handles()
        task = loop.create_task(waiting(future))
        assert handles() == before
        loop.run_until_complete(asyncio.sleep(0))
        before = handles()
        future.add_done_callback(done)
        future.set_result(42)
        assert handles() == before
        kept = loop.call_soon(order.append, "call_soon")
        assert handles() == before + 1
        assert len(loop._ready) == 3
        loop.run_until_complete(task)
        assert not kept.cancelled()
    assert order == [("task", 42, "inside"), ("callback", 42, "outside"), "call_soon"]


def test_what_a_forgotten_callback_raises_is_reported(loop, reports):
    def fail(_future):
        raise ZeroDivisionError

    future = loop.create_future()
    future.add_done_callback(fail)
    future.set_result(None)
    loop.run_until_complete(asyncio.sleep(0))
    (context,) = reports
    assert isinstance(context["exception"], ZeroDivisionError)
    assert isinstance(context["handle"], asyncio.Handle)
    assert context["handle"]._callback is fail
    assert context["handle"]._args == (future,)


def test_a_name_of_none_is_no_name(run, loop):
    async def main():
        first = loop.create_task(answer(), name=None)
        assert first.get_name().startswith("Task-")
        assert await first == 42
        with pytest.raises(TypeError, match="colour"):
            loop.create_task(coro := answer(), colour="red")
        coro.close()

    run(main)


def test_tasks_and_futures_are_of_the_loop_that_was_asked(loop, loop_factory):
    """Whichever loop runs meanwhile, and if none does."""

    def made():
        tasks = [loop.create_task(answer()), loop.create_task(answer(), name="named")]
        return [*tasks, loop.create_future()]

    async def main():
        return made()

    other = loop_factory()
    everything = made() + other.run_until_complete(main()) + loop.run_until_complete(main())
    other.close()
    assert [one.get_loop() for one in everything] == [loop] * 9
    tasks = [one for one in everything if isinstance(one, asyncio.Task)]
    assert [task.get_name() for task in tasks[1::2]] == ["named"] * 3
    assert loop.run_until_complete(asyncio.wait_for(gathered(tasks), 50)) == [42] * 6


async def gathered(tasks):
    return await asyncio.gather(*tasks)
