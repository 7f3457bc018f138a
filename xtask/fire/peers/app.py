"""What the prefork server does, for gunicorn and Granian: 2 ms of work, 1 KiB, and misbehaviour on
request. Each start of a worker is noted in FIRE_FOLDER/boot.log, and fails while there is a file
FIRE_FOLDER/crash."""

import ctypes
import os
import time

FOLDER = os.environ["FIRE_FOLDER"]
LEAKED = []


def note_start():
    line = f"{os.getpid()} {time.monotonic():.9f}\n".encode()
    log = os.open(FOLDER + "/boot.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, line)
    os.close(log)
    if os.path.exists(FOLDER + "/crash"):
        os._exit(1)


# gunicorn without --preload and Granian import this module in each worker.
note_start()


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/hang":
        # It keeps the interpreter lock: no thread of this worker goes on.
        ctypes.PyDLL(None).sleep(1_000_000)
    if path == "/leak":
        LEAKED.append(b"x" * (1 << 20))

    def body():
        yield b"x" * 512
        time.sleep(0.001)
        yield b"x" * 512

    time.sleep(0.001)
    start_response("200 OK", [("Content-Length", "1024"), ("X-Pid", str(os.getpid()))])
    return body()
