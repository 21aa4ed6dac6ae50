import asyncio
import gc
import weakref

from routing.openai.watch import Watched


async def test_a_watched_request_is_freed_without_the_garbage_collector():
    async def receive():
        await asyncio.Event().wait()

    task = asyncio.current_task()
    watched = Watched(receive, task)
    gone = weakref.ref(receive)
    gc.disable()
    try:
        watched.look()
        await asyncio.sleep(0)
        watched.stop()
        del watched, receive
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()
