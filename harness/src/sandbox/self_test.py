# Looks for holes in the walls from inside.
import os
import resource
import socket
import threading
import time


def refused(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return True
    return False


assert os.getuid() not in (0, 65534), "it runs as user %d" % os.getuid()
assert os.getpid() == 2, "it has no process namespace of its own"
assert not os.path.exists("/proc/self"), "it sees /proc"
assert sorted(os.listdir("/tmp")) == [], "its /tmp is not empty"
for folder in "/", "/dev":
    assert refused(open, os.path.join(folder, "written"), "w"), "it can write to " + folder
for family in socket.AF_INET, socket.AF_UNIX, getattr(socket, "AF_NETLINK", 16):
    assert refused(socket.socket, family), "it can open a socket of family %d" % family
with open("/tmp/written", "w") as file:
    file.write("x")

done = []
thread = threading.Thread(target=done.append, args=(1,))
thread.start()
thread.join()
assert done == [1], "threads do not run"


def fork_too_often():
    for _ in range(resource.getrlimit(resource.RLIMIT_NPROC)[0] + 8):
        if os.fork() == 0:
            time.sleep(60)


assert refused(fork_too_often), "the number of processes has no limit"
