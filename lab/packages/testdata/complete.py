#!/usr/bin/python3
"""complete.py SHELL LINE WANT: types LINE and a tab into an interactive shell, and waits until it shows WANT."""
import os
import pty
import select
import sys
import time

shell, line, want = sys.argv[1:]
start = {
    "bash": (["bash", "--noprofile", "--norc", "-i"], "source /usr/share/bash-completion/bash_completion"),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -u -D"),
}[shell]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "dumb"
    os.execvp(start[0][0], start[0])
shown = b""


def wait(text):
    global shown
    end = time.time() + 120
    while text not in shown:
        if time.time() > end:
            sys.exit("no %r in %r" % (text, shown))
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096)


os.write(terminal, (start[1] + "; echo rea''dy\n").encode())
wait(b"ready\r\n")
os.write(terminal, (line + "\t").encode())
wait(want.encode())
