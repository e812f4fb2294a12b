"""Stations that report over pipes, one control room that waits for all of them, and a station that is killed.

Each station has a pipe of its own, to which the control room sends orders. `connection.wait` takes the pipes and the
processes' sentinels alike. When a station is killed, its pipe ends there and then; the others are not concerned.
Another program, which may use the standard library, looks at the totals through a `Client` that has to know the key.
"""

import os
import signal
import threading

import manyhands as multiprocessing
from manyhands.connection import Client, Listener, wait

KEY = b"only for those who know it"


def station(orders, number):
    """Measures when it is told to, until it is told to stop."""
    while (order := orders.recv()) != "stop":
        if order == "fall over":
            os.kill(os.getpid(), signal.SIGKILL)
        orders.send_bytes(bytes(range(number, number + order)))


def main() -> None:
    stations = {}
    for number in range(4):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=station, args=(theirs, number))
        process.start()
        # Only the station holds its end now: when it is gone, ours says so.
        theirs.close()
        stations[ours] = (number, process)

    for conn, (number, _) in stations.items():
        conn.send("fall over" if number == 2 else 100 + number)

    totals, lost = {}, []
    waiting = dict(stations)
    while waiting:
        for conn in wait(waiting):
            number, _ = waiting.pop(conn)
            try:
                totals[number] = sum(conn.recv_bytes())
            except EOFError:
                lost.append(number)
    print("totals", dict(sorted(totals.items())), "lost", lost)
    assert lost == [2]

    with Listener(authkey=KEY) as listener:
        visitor = threading.Thread(target=look, args=(listener.address,))
        visitor.start()
        with listener.accept() as guest:
            guest.send(totals)
        visitor.join()

    for conn, (number, process) in stations.items():
        if number not in lost:
            conn.send("stop")
        conn.close()
        wait([process.sentinel])
        process.join()
    print("exit codes", [process.exitcode for _, process in stations.values()])


def look(address) -> None:
    with Client(address, authkey=KEY) as conn:
        print("the visitor sees", len(conn.recv()), "stations")


if __name__ == "__main__":
    main()
