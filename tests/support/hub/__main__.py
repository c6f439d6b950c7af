"""Runs the test Hub as a process of its own: `python -m tests.support.hub --print-endpoint`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from .server import TOKEN, Hub


def main() -> None:
    """Serves until SIGTERM, Ctrl-C or, with `--until-eof`, the end of standard input: with its parent."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.hub", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: one that is free")
    parser.add_argument("--token", default=TOKEN, help="the token that may write")
    parser.add_argument("--print-endpoint", action="store_true", help="print the endpoint, on a line")
    parser.add_argument("--until-eof", action="store_true", help="end with standard input")
    args = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Hub(args.port, args.token) as hub:
        if args.print_endpoint:
            sys.stdout.write(hub.endpoint + "\n")
            sys.stdout.flush()
        if args.until_eof:
            sys.stdin.read()
        else:
            ended.wait()


if __name__ == "__main__":
    main()
