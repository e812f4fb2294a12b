"""An asyncio program that reads what worker processes put into a queue, without a thread that waits for them.

`_reader` of a queue can be given to an event loop, `select` or `connection.wait`: it is readable while there is
something to get. The callback takes all that is there, so one wake of the loop serves many items.
"""

import asyncio
import queue

import manyhands as multiprocessing
from manyhands.queues import ShutDown


def measure(name, readings):
    """A sensor: puts some readings."""
    for number in range(200):
        readings.put((name, (number * 37 + len(name)) % 100))


async def collect(readings) -> dict[str, list[int]]:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    by_name: dict[str, list[int]] = {}

    def take() -> None:
        try:
            for name, value in readings.get_many(block=False):
                by_name.setdefault(name, []).append(value)
        except queue.Empty:
            pass  # somebody else was faster
        except ShutDown:
            ended.set()

    loop.add_reader(readings._reader, take)
    sensors = [asyncio.create_task(run(name, readings)) for name in ("inlet", "outlet", "pump")]
    # The loop is free for other things meanwhile.
    ticks = 0
    while not all(task.done() for task in sensors):
        await asyncio.sleep(0.005)
        ticks += 1
    readings.shutdown()
    await ended.wait()
    loop.remove_reader(readings._reader)
    print("the loop went round", ticks, "times beside it")
    return by_name


async def run(name, readings) -> None:
    """Starts a sensor's process and waits for its end, in the loop."""
    process = multiprocessing.get_context("spawn").Process(target=measure, args=(name, readings))
    process.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(process.sentinel, ended.set)
    await ended.wait()
    asyncio.get_running_loop().remove_reader(process.sentinel)
    process.join()


def main() -> None:
    readings = multiprocessing.get_context("spawn").Queue()
    by_name = asyncio.run(collect(readings))
    for name, values in sorted(by_name.items()):
        print(f"{name}: {len(values)} readings, {sum(values) / len(values):.1f} on average")
    assert {name: len(values) for name, values in by_name.items()} == {
        "inlet": 200,
        "outlet": 200,
        "pump": 200,
    }


if __name__ == "__main__":
    main()
