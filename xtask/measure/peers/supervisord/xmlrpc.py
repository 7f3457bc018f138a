"""What supervisord takes to start and to stop a program, asked by XML-RPC.

xmlrpc.py SAMPLES FOLDER SUPERVISORD...

Starts a supervisord of its own in FOLDER and ends it. Prints lines of a name and numbers: nanoseconds.
"""

import http.client
import os
import socket
import subprocess
import sys
import time
import xmlrpc.client

SETTINGS = """
[unix_http_server]
file={folder}/socket
[supervisord]
nodaemon=true
logfile={folder}/log
pidfile={folder}/pid
childlogdir={folder}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:idle]
command=/bin/sleep 1000000
autostart=false
autorestart=false
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE
"""


class UnixConnection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.host)


class UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def make_connection(self, _host):
        return UnixConnection(self.path)


def connect(path, process):
    server = xmlrpc.client.ServerProxy("http://localhost", UnixTransport(path))
    deadline = time.monotonic() + 30
    while True:
        try:
            server.supervisor.getState()
            return server.supervisor
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("supervisord did not come up")
            time.sleep(0.05)


def main():
    samples, folder, *command = sys.argv[1:]
    settings = os.path.join(folder, "settings")
    with open(settings, "w", encoding="utf-8") as file:
        file.write(SETTINGS.format(folder=folder))
    process = subprocess.Popen([*command, "-c", settings], stdout=subprocess.DEVNULL)
    try:
        supervisor = connect(os.path.join(folder, "socket"), process)
        started, stopped = [], []
        for _ in range(int(samples)):
            begin = time.monotonic_ns()
            supervisor.startProcess("idle", True)
            started.append(time.monotonic_ns() - begin)
            # A signal that comes before the program runs is lost to supervisord's own handler.
            time.sleep(0.05)
            begin = time.monotonic_ns()
            supervisor.stopProcess("idle", True)
            stopped.append(time.monotonic_ns() - begin)
        print("started", *started)
        print("stopped", *stopped)
    finally:
        # In order: it ends its programs first.
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
