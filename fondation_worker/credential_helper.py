"""Git's credential helper: `python -I -S credential_helper.py DIRECTORY ACTION`.

It knows no secret. It passes on what git asks to the socket in DIRECTORY, where the worker listens,
and prints the worker's answer. Standard library only, and no import of this package.
"""

import os
import socket
import sys

SOCKET = "credential"


def main() -> int:
    """Ask the worker, tell git."""
    directory, action = sys.argv[1:3]
    question = sys.stdin.buffer.read(65536)
    with socket.socket(socket.AF_UNIX) as worker:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        # Not by its own path: that may be longer than the 107 bytes which a socket's may have.
        worker.connect(f"/proc/self/fd/{place}/{SOCKET}")
        worker.sendall(action.encode() + b"\n" + question)
        worker.shutdown(socket.SHUT_WR)
        while answer := worker.recv(65536):
            sys.stdout.buffer.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
