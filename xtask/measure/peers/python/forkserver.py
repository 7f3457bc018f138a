"""What multiprocessing's forkserver takes for the steps that ours are measured by.

forkserver.py SAMPLES CHURN_WORKERS CHURN_RUNS IN_FLIGHT...

Prints lines of a name and numbers: nanoseconds of CLOCK_MONOTONIC, or workers a second.
"""

import multiprocessing
import multiprocessing.connection
import signal
import sys
import time


def idle(pipe):
    pipe.send(time.monotonic_ns())
    signal.pause()


def quick():
    pass


def start_stop(context, samples):
    first, started, stopped = [], [], []
    for _ in range(samples):
        receive, send = context.Pipe(duplex=False)
        begin = time.monotonic_ns()
        worker = context.Process(target=idle, args=(send,))
        worker.start()
        started.append(time.monotonic_ns() - begin)
        first.append(receive.recv() - begin)
        receive.close()
        send.close()
        time.sleep(0.002)
        begin = time.monotonic_ns()
        worker.terminate()
        worker.join()
        stopped.append(time.monotonic_ns() - begin)
        worker.close()
        time.sleep(0.002)
    return first, started, stopped


def churn(context, count, in_flight):
    running = {}
    begin = time.monotonic_ns()
    for _ in range(count):
        while len(running) >= in_flight:
            for sentinel in multiprocessing.connection.wait(list(running)):
                worker = running.pop(sentinel)
                worker.join()
                worker.close()
        worker = context.Process(target=quick)
        worker.start()
        running[worker.sentinel] = worker
    for worker in running.values():
        worker.join()
        worker.close()
    return count / ((time.monotonic_ns() - begin) / 1e9)


def say(name, numbers):
    print(name, *numbers, flush=True)


def main():
    samples, count, runs, *in_flight = (int(argument) for argument in sys.argv[1:])
    context = multiprocessing.get_context("forkserver")
    start_stop(context, 5)
    for name, numbers in zip(("first", "started", "stopped"), start_stop(context, samples)):
        say(name, numbers)
    for number in in_flight:
        say(f"churn-{number}", [churn(context, count, number) for _ in range(runs)])


if __name__ == "__main__":
    main()
