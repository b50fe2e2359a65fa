# SPDX-License-Identifier: GPL-3.0-or-later
"""In an RDMA guest: runs what the machine outside asks for. One JSON line in, one out, on TCP 7400 of the test network.

{"run": [words], "timeout": s, "env": {}} -> {"rc", "out", "err"}; {"start": [words], "log": path} -> {"pid"};
{"kill": pid, "signal": n} -> {}; {"wait": pid, "timeout": s} -> {"rc"}; {"say": {}, "to": UNIX socket, "timeout": s} -> its
answer, one line of JSON as well (to start a program in the guest for it would cost seconds)
"""

import json
import os
import socket
import socketserver
import subprocess

started = {}


def answer(request):
    env = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **request.get("env", {})}
    if "run" in request:
        try:
            done = subprocess.run(request["run"], capture_output=True, text=True, env=env, timeout=request["timeout"])
            return {"rc": done.returncode, "out": done.stdout, "err": done.stderr}
        except subprocess.TimeoutExpired as error:
            return {"rc": -1, "out": str(error.stdout or ""), "err": f"no end after {error.timeout} s: {error.stderr or ''}"}
    if "start" in request:
        with open(request["log"], "ab") as log:
            process = subprocess.Popen(request["start"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        started[process.pid] = process
        return {"pid": process.pid}
    if "say" in request:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(request["timeout"])
            sock.connect(request["to"])
            sock.sendall(json.dumps(request["say"]).encode() + b"\n")
            return {"answer": json.loads(sock.makefile().readline())}
    if "kill" in request:
        os.kill(request["kill"], request["signal"])
        return {}
    try:
        return {"rc": started[request["wait"]].wait(request.get("timeout", 60))}
    except subprocess.TimeoutExpired:
        return {"rc": None}


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            try:
                reply = answer(json.loads(line))
            except Exception as error:  # the other side must learn of whatever goes wrong
                reply = {"error": f"{type(error).__name__}: {error}"}
            self.wfile.write(json.dumps(reply).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("0.0.0.0", 7400), Handler).serve_forever()
