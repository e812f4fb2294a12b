"""Requests that bring the queue for their answer along, and a server that is killed in the middle.

A queue lives as long as somebody has it open or a message carries it. When the server is killed, what it held and what
lay unread in its queue is given back; the next server goes on with the requests that are left.
"""

import os
import signal

import manyhands as multiprocessing


def serve(requests):
    while (request := requests.get()) is not None:
        number, answers = request
        if number == 7 and os.environ.pop("UNLUCKY", None):
            os.kill(os.getpid(), signal.SIGKILL)
        answers.put(number * number)


def main() -> None:
    requests = multiprocessing.Queue()
    waiting = {}
    for number in range(20):
        waiting[number] = multiprocessing.SimpleQueue()
        requests.put((number, waiting[number]))

    os.environ["UNLUCKY"] = "1"
    first = multiprocessing.Process(target=serve, args=(requests,))
    first.start()
    first.join()
    print("the first server ended by signal", -first.exitcode)
    os.environ.pop("UNLUCKY")

    second = multiprocessing.Process(target=serve, args=(requests,))
    requests.put(None)
    second.start()
    second.join()
    answered = {number: queue.get() for number, queue in waiting.items() if not queue.empty()}
    print(len(answered), "of 20 answered, the one that the first server was at is lost")
    assert answered == {n: n * n for n in range(20) if n != 7}

    waiting.clear()
    del requests, first, second
    held = next(line for line in multiprocessing.doctor().splitlines() if "held block" in line)
    print(held.strip())
    assert held.split(" held")[0].endswith(" in 0"), held


if __name__ == "__main__":
    main()
