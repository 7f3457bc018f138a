"""What multiprocessing's forkserver takes for the steps that ours are measured by, and what
concurrent.futures' ProcessPoolExecutor takes for jobs.

forkserver.py SAMPLES CHURN_WORKERS CHURN_RUNS IN_FLIGHT...

Prints lines of a name and numbers: nanoseconds of CLOCK_MONOTONIC, or workers a second.
"""

import collections
import concurrent.futures
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


def empty(value):
    return value


def works(value):
    until = time.monotonic_ns() + 10_000
    while time.monotonic_ns() < until:
        pass
    return value


def one_job(pool, value):
    begin = time.monotonic_ns()
    pool.submit(empty, value).result()
    return time.monotonic_ns() - begin


def jobs(pool, work, count):
    """How many jobs a second, 64 of them in flight."""
    running = collections.deque()
    begin = time.monotonic_ns()
    for value in range(count):
        if len(running) == 64:
            running.popleft().result()
        running.append(pool.submit(work, value))
    for job in running:
        job.result()
    return count / ((time.monotonic_ns() - begin) / 1e9)


def pooled(samples, count, runs):
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        jobs(pool, empty, 64)
        say("job", [one_job(pool, value) for value in range(samples)])
        for name, work in (("jobs-empty", empty), ("jobs-longer", works)):
            say(name, [jobs(pool, work, count) for _ in range(runs)])


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
    pooled(samples, count, runs)


if __name__ == "__main__":
    main()
