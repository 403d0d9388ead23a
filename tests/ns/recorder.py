"""A main command that takes every signal there is and writes down its number.

Prints "ready" when all are blocked, then a number a line. It goes on for ever.
"""

import signal
import sys

# glibc keeps 32 and 33 for itself; the five faults mean a fault when they are blocked.
TAKEN = signal.valid_signals() - {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD,
    signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE,
}

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
    print("ready", flush=True)
    while True:
        print(int(signal.sigwait(TAKEN)), flush=True)
        sys.stdout.flush()
