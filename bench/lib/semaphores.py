"""System V semaphores that a tool leaves behind, even after a run that went well: found by who used them last, removed."""
import ctypes

LIBC = ctypes.CDLL(None, use_errno=True)
IPC_RMID, GETPID = 0, 11


def existing():
    """Ids of all semaphore sets of the machine."""
    try:
        with open("/proc/sysvipc/sem", encoding="ascii") as file:
            return {int(line.split()[1]) for line in list(file)[1:]}
    except OSError:
        return set()


def remove_new(before, pids):
    """Removes the sets made since `before` that one of these processes touched last."""
    for number in existing() - before:
        if LIBC.semctl(number, 0, GETPID) in pids:
            LIBC.semctl(number, 0, IPC_RMID)
