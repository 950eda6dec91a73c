"""Ties a process to the one that started it, then becomes the program: `leash.py PARENT SIGNAL IDENTITY PROGRAM...`.

It is run as a script of its own (never imported by the launcher's children) because the three things it does must
happen between fork and exec, and doing them with `preexec_fn` in a process that has threads may deadlock:

- take another identity, because PostgreSQL refuses to run as root (`keep`, `user:UID:GID`, or `namespace`, in
  which root itself is seen as nobody: nothing has to be copied or opened to other users);
- ask the kernel for SIGNAL when the parent dies, however it dies (Linux; elsewhere the next start tidies up);
- exec, so that the parent's child is the program itself and signals need no relay.
"""

import ctypes
import os
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_NOBODY = 65534
_CANNOT_START = 127


def main(arguments: list[str]) -> None:
    parent, death_signal, identity, *program = arguments
    _become(identity)
    if sys.platform == "linux":
        _call("prctl", _PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the parent was gone before its child began")
    os.execv(program[0], program)  # noqa: S606  becoming the program is the whole point


def _become(identity: str) -> None:
    if identity == "namespace":
        uid, gid = os.geteuid(), os.getegid()
        _call("unshare", _CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{_NOBODY} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{_NOBODY} {gid} 1")
    elif identity.startswith("user:"):
        _, uid_text, gid_text = identity.split(":")
        os.setgroups([])
        os.setgid(int(gid_text))
        os.setuid(int(uid_text))


def _call(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        print(f"cannot start {sys.argv[4] if len(sys.argv) > 4 else 'nothing'}: {error}", file=sys.stderr)
        sys.exit(_CANNOT_START)
