"""A disk that writes at a given rate: a file as a block device, throttled by the kernel (blkio of cgroups, version 1)."""
import contextlib
import os
import subprocess
import time

from lib.cluster import BenchError

THROTTLE = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device"
MB = 2**20
TRIES = 50


def call(*words):
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    if run.returncode:
        raise BenchError(f"{' '.join(words)}: {run.stderr.strip()}")
    return run.stdout.strip()


def limit(device, bytes_a_second):
    with open(f"/sys/block/{os.path.basename(device)}/dev", encoding="ascii") as file:
        number = file.read().strip()
    with open(THROTTLE, "w", encoding="ascii") as file:
        file.write(f"{number} {bytes_a_second}")


def unmount(folder):
    """A server that has just ended may hold it for a moment."""
    for tries in range(TRIES):
        try:
            return call("umount", folder)
        except BenchError:
            if tries == TRIES - 1:
                raise
            time.sleep(0.2)
    return None


@contextlib.contextmanager
def slow_disk(image, folder, size_mb, mb_a_second):
    """Mounted at `folder`, which is made."""
    if os.geteuid() != 0 or not os.path.exists(THROTTLE):
        raise BenchError(f"a slow disk needs root, loop devices and {THROTTLE}")
    with contextlib.ExitStack() as undo:
        with open(image, "wb") as file:
            file.truncate(size_mb * MB)
        undo.callback(os.unlink, image)
        device = call("losetup", "--find", "--show", image)
        undo.callback(call, "losetup", "--detach", device)
        call("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
        os.makedirs(folder)
        call("mount", device, folder)
        undo.callback(unmount, folder)
        limit(device, mb_a_second * MB)
        undo.callback(limit, device, 0)
        yield
