# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 lying_witness.py SETTINGS: takes the witness's place and lies to each replica over and over, until it is ended.

It is what somebody could run who has got into the witness's host: it knows the members and has the witness's certificate. One lie
a connection, as each costs the link; before it, all that costs none.
"""

from __future__ import annotations

import itertools
import json
import socket
import sys
import time

from plover.config.settings import Config
from plover.links import auth, hello
from plover.links.tls import Folder
from plover.protocol import codec, wire

from lab.attack.speak import later_views, lies

HEARD_S_MAX = 1.0  # what is a lie in one view may be true in another, after a failover: then the link lives
VIEWS = 6  # real views at the beginning of a test: few


def words() -> list[wire.Message]:
    """What a voter may say, so it costs no link: that there are later views."""
    return [word for view in range(1, VIEWS + 1) for word in later_views(view)]


def receive(link: socket.socket) -> bytes:
    try:
        return link.recv(65_536)
    except (TimeoutError, OSError):
        return b""


def said(message: wire.Message, tag: int) -> bytes:
    return b"".join(map(bytes, codec.encode(message, tag)))


def greeting(config: Config, tag: int, received: bytes) -> bytes:
    """The answer to a member's Hello: it knows the group's secret, and proves it."""
    theirs = next((message for message in codec.Decoder(tag).feed(received) if isinstance(message, wire.Hello)), None)
    if theirs is None:
        return b""
    words = json.loads(bytes(theirs.payload))
    session = auth.Session(auth.read(config.secret_path), config.member)
    ours = hello.of(config, wire.CONTROL, session.nonce)
    proof = session.greeted(words["member"], words["nonce"], bytes(theirs.payload), bytes(ours.payload))
    return said(ours, tag) + said(wire.Proof(proof), tag)


def main() -> None:
    config = Config(json.loads(open(sys.argv[1], encoding="utf-8").read()))
    tag = codec.cluster_tag(config.cluster_id)
    listener = socket.create_server((config.members["witness"]["address"], config.port), reuse_port=False)
    told = itertools.cycle([lie for view in range(1, VIEWS) for lie in lies(view, now=1)])
    folder = Folder(config.tls_path, config.cluster_id, config.member, tuple(config.members))
    print("ready", flush=True)
    while True:
        link, _ = listener.accept()
        link.settimeout(1.0)
        if config.link_security == "tls":
            try:
                link = folder.read().accepting.wrap_socket(link, server_side=True)
            except OSError:
                continue
        lie = next(told)
        try:
            link.sendall(greeting(config, tag, receive(link)) + b"".join(said(word, tag) for word in (*words(), lie)))
        except OSError:
            pass
        end = time.monotonic() + HEARD_S_MAX
        while receive(link) and time.monotonic() < end:
            pass
        link.close()
        print(type(lie).__name__, flush=True)


if __name__ == "__main__":
    main()
