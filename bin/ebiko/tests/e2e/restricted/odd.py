"""What processes do seldom, and must not tell that they are not root. Exits with a message at the first thing that is wrong."""

import ctypes
import errno
import os
import struct
import subprocess
import sys
import tempfile
import threading

libc = ctypes.CDLL(None, use_errno=True)
os.environ["ODD"] = tempfile.mkdtemp()
os.chdir(os.environ["ODD"])


def check(seen, expected, what):
    if seen != expected:
        sys.exit(f"{what}: {seen!r} and not {expected!r}")


def in_child(action):
    """The status of a child that does this."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# A thousand forks; every child is who its parent was, also when the parent has become somebody else meanwhile.
def become_joe():
    os.setgroups([])
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)
    for _ in range(500):
        check(in_child(lambda: check(os.getresuid(), (1000,) * 3, "a child of joe")), 0, "a child")


check(in_child(become_joe), 0, "joe")
for _ in range(500):
    check(in_child(lambda: check(os.getresuid(), (0,) * 3, "a child of root")), 0, "a child")


# All threads of a process become somebody together.
def threads():
    seen = []
    go = threading.Event()
    waiting = [threading.Thread(target=lambda: (go.wait(), seen.append(os.getuid()))) for _ in range(8)]
    for thread in waiting:
        thread.start()
    os.setuid(1000)
    go.set()
    for thread in waiting:
        thread.join()
    check(seen, [1000] * 8, "threads")
    check(os.open("/etc/hostname", os.O_RDONLY) > 0, True, "a file that all may read")


check(in_child(threads), 0, "threads")

# Somebody else may not read what only root may, also in a step that has begun as root.
def read_secrets():
    os.setuid(1000)
    try:
        open("/etc/shadow").close()
    except PermissionError:
        return
    sys.exit("joe has read /etc/shadow")


check(in_child(read_secrets), 0, "a file of root's")

# Names at the top, with and without a link, and what is done by path.
for top in ["/srv/odd-name", "/odd-name"]:
    os.mkdir(top)
    name = f"{top}/file"
    with open(name, "w") as file:
        file.write("12345")
    os.truncate(name, 3)
    os.utime(name, (1, 2))
    check((os.stat(name).st_size, os.stat(name).st_mtime), (3, 2.0), name)
    if os.uname().machine == "x86_64":
        # utime(2) and utimes(2), which old libraries use.
        check(libc.syscall(132, name.encode(), struct.pack("<2q", 5, 6)), 0, "utime")
        check((os.stat(name).st_atime, os.stat(name).st_mtime), (5.0, 6.0), name)
        check(libc.syscall(235, name.encode(), struct.pack("<4q", 7, 0, 8, 500000)), 0, "utimes")
        check(os.stat(name).st_mtime, 8.5, name)
    os.symlink(name, "/srv/to-odd")
    os.chmod("/srv/to-odd", 0o750)
    check(os.stat(name).st_mode & 0o7777, 0o750, "a mode by a link to a name at the top")
    os.remove("/srv/to-odd")
    try:
        os.setxattr(name, "user.odd", b"1")
        check((os.listxattr(name), os.getxattr(name, "user.odd")), (["user.odd"], b"1"), name)
        os.removexattr(name, "user.odd")
    except OSError as error:
        check(error.errno, errno.EOPNOTSUPP, "attributes")
    check(os.listxattr(name), [], name)
    # An access control list with the three usual entries is a mode: cp -a sets it so.
    entries = [(1, 0), (4, 4), (32, 0)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, bits, 0xFFFFFFFF) for tag, bits in entries)
    try:
        os.setxattr(name, "system.posix_acl_access", value)
        check(os.stat(name).st_mode & 0o7777, 0o040, "the list of a file")
        check(open(name).read(), "123", "a file that only its group may read, for root")
        os.chmod(name, 0o600)
    except OSError as error:
        check(error.errno, errno.EOPNOTSUPP, "lists")
    check(open(name).read(), "123", name)
    os.remove(name)
    os.rmdir(top)

# There is nothing above the top, however many steps a path goes up.
os.makedirs("/srv/down")
for here in ("/srv", "/srv/down", "/"):
    os.chdir(here)
    for up in ("../..", "../../..", "../../../../..", "/srv/../..", "/srv/down/../../../..", "/proc/.."):
        check(open(f"{up}/etc/passwd").read(5), "root:", f"{up} of {here}")
        check(os.path.samefile(up, "/"), True, f"{up} of {here}")
        check(os.path.islink(f"{up}/srv"), False, f"{up}/srv of {here}")
        name = f"{up}/odd-up"
        open(name, "w").close()
        check(os.listdir("/").count("odd-up"), 1, f"{name} of {here}")
        os.rename(name, f"{up}/odd-on")
        check(os.stat("/odd-on").st_nlink, 1, f"{name} of {here}")
        os.link("/odd-on", name)
        os.remove("/odd-on")
        os.remove(name)
        os.mkdir(name)
        os.rmdir("/odd-up")
        os.symlink(f"{up}/etc/passwd", "/srv/down/link")
        check(os.path.exists("/srv/down/link"), True, f"a link to {up}")
        os.remove("/srv/down/link")
os.chdir(os.environ["ODD"])
os.rmdir("/srv/down")

# An orphan is who it was, long after its parents have gone.
read, write = os.pipe()
if os.fork() == 0:
    os.setuid(1000)
    if os.fork() == 0:
        threading.Event().wait(0.2)
        os.write(write, str(os.getuid()).encode())
    os._exit(0)
os.close(write)
os.wait()
check(os.read(read, 9), b"1000", "an orphan")

# Python starts programs with vfork.
check(subprocess.check_output(["id", "-u"]), b"0\n", "vfork")
check(subprocess.check_output(["id", "-u"], user=1000), b"1000\n", "vfork and setuid")

# A program by its descriptor: execveat(2).
program = os.open("/usr/bin/id", os.O_RDONLY)
os.set_inheritable(program, True)
pid = os.fork()
if pid == 0:
    os.execve(program, ["id", "-u"], os.environ)
check(os.waitpid(pid, 0)[1], 0, "execveat")


# What is not there.
def fails(number, *arguments):
    ctypes.set_errno(0)
    check(libc.syscall(number, *arguments), -1, f"system call {number}")
    check(ctypes.get_errno() in (errno.ENOSYS, errno.EPERM), True, f"system call {number}")


fails(425, 8, 0)  # io_uring_setup
fails(272, 0x10000000)  # unshare(CLONE_NEWUSER)
for action in (os.stat, os.listdir, lambda path: os.chown(path, 1, 1), lambda path: open(path, "w")):
    try:
        action("/" + "x/" * 32768)
        sys.exit("a path of 64 KiB")
    except OSError as error:
        check(error.errno, errno.ENAMETOOLONG, "a path of 64 KiB")

# Names that are exchanged while owners are changed: each file has the owner that it was given by its descriptor.
files = [os.open(name, os.O_CREAT | os.O_RDWR, 0o640) for name in ("a", "b")]
stop = threading.Event()


def exchange():
    while not stop.is_set():
        os.rename("a", "c")
        os.rename("b", "a")
        os.rename("c", "b")


thread = threading.Thread(target=exchange)
thread.start()
for round in range(300):
    for number, file in enumerate(files):
        os.fchown(file, 100 + number, 200 + round)
        found = os.fstat(file)
        check((found.st_uid, found.st_gid), (100 + number, 200 + round), "a file that is renamed")
    try:
        os.chown("a", 100, 7)
        os.chown("a", 101, 7)
    except FileNotFoundError:
        pass
stop.set()
thread.join()
check(sorted(os.stat(name).st_gid for name in os.listdir(".")) != [], True, "files")



def mode_of(file):
    return os.stat(file).st_mode & 0o7777


# Modes that the disk cannot hold, and usual ones after them, which the kernel sets without a question.
for unusual, usual in [(0o444, 0o644), (0o4711, 0o755), (0o000, 0o600), (0o2640, 0o640), (0o1400, 0o600)]:
    file = os.open("moded", os.O_CREAT | os.O_RDWR, 0o600)
    os.chmod("moded", unusual)
    check(mode_of("moded"), unusual, "an unusual mode")
    os.fchmod(file, usual)
    check(mode_of("moded"), usual, f"a usual mode after {unusual:o}")
    os.fchmod(file, unusual)
    check(mode_of("moded"), unusual, f"an unusual mode after {usual:o}")
    # A list of three entries is a mode, a longer one changes it.
    for entries, after in [
        ([(1, 6), (4, 4), (32, 0)], 0o640),
        ([(1, 6), (2, 4, 33), (4, 4), (16, 6), (32, 0)], 0o660),
    ]:
        os.chmod("moded", unusual)
        lines = [struct.pack("<HHI", entry[0], entry[1], (entry + (0xFFFFFFFF,))[2]) for entry in entries]
        try:
            os.setxattr(file, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(lines))
        except OSError as error:
            check(error.errno, errno.EOPNOTSUPP, "lists")
            break
        check(mode_of("moded"), unusual & 0o7000 | after, f"the list of a file that was {unusual:o}")
    os.close(file)
    os.remove("moded")

# A sticky bit is what it is, also where others may not write.
os.mkdir("sticky", 0o1755)
check(mode_of("sticky"), 0o1755, "a sticky directory")
os.chmod("sticky", 0o1777)
check(mode_of("sticky"), 0o1777, "a sticky directory of all")
os.chmod("sticky", 0o1700)
check(mode_of("sticky"), 0o1700, "a sticky directory of its owner")
os.close(os.open("sticky/file", os.O_CREAT | os.O_RDWR, 0o1640))
check(mode_of("sticky/file"), 0o1640, "a sticky file")
os.chmod("sticky/file", 0o640)
check(mode_of("sticky/file"), 0o640, "a file that is sticky no more")

# Lists leave a sticky bit as it is, and a directory that root alone could not write to can be written to.
for bits in (0o1777, 0o2555, 0o1750):
    os.mkdir("listed")
    os.chmod("listed", bits)
    for entries, after in [
        ([(1, 7), (4, 5), (32, 5)], 0o755),
        ([(1, 7), (2, 7, 33), (4, 5), (16, 7), (32, 5)], 0o775),
        ([(1, 5), (2, 5, 33), (4, 5), (16, 5), (32, 5)], 0o555),
    ]:
        lines = [struct.pack("<HHI", entry[0], entry[1], (entry + (0xFFFFFFFF,))[2]) for entry in entries]
        try:
            os.setxattr("listed", "system.posix_acl_access", struct.pack("<I", 2) + b"".join(lines))
        except OSError as error:
            check(error.errno, errno.EOPNOTSUPP, "lists")
            break
        check(mode_of("listed"), bits & 0o7000 | after, f"the list of a directory that was {bits:o}")
        open("listed/file", "w").close()
        os.remove("listed/file")
    os.rmdir("listed")
before = os.umask(0o222)
os.mkdir("masked")
os.umask(before)
check(mode_of("masked"), 0o555, "a directory that was made so")
open("masked/file", "w").close()
os.mkdir("masked/below")

# Root needs no right to search, also where a directory lost it by its descriptor.
os.mkdir("closed")
open("closed/file", "w").close()
closed = os.open("closed", os.O_RDONLY)
os.fchmod(closed, 0o600)
check(mode_of("closed"), 0o600, "a directory that nobody may search")
ways = [
    lambda: (mode_of("closed/file"), open("closed/other", "w").close()),
    lambda: os.stat("file", dir_fd=closed),
    lambda: os.chmod("closed/file", 0o640),
    lambda: in_child(lambda: os.chdir("closed")) and sys.exit("cannot go there"),
    lambda: os.mkdir(os.path.join("closed", str(len(os.listdir("closed"))))),
]
for way in ways:
    os.fchmod(closed, 0o644)
    way()
    check(mode_of("closed"), 0o644, "a directory that nobody may search")
os.remove("closed/file")
os.fchmod(closed, 0o600)

# A directory hands on its group, however it is named.
os.mkdir("shared")
os.mkdir("shared/below")
for shared in ("shared", "shared/below"):
    os.chown(shared, 0, 50)
    os.chmod(shared, 0o2775)
here = os.getcwd()
os.symlink(f"{here}/shared", "link")
names = ["shared/a", f"{here}/shared/b", "link/c", "./shared/../shared/d", "shared/below/e", "shared//f"]
for name in names:
    open(name, "w").close()
os.chdir("shared")
open("g", "w").close()
os.chdir("below")
open("h", "w").close()
open("../i", "w").close()
os.chdir(here)
open("shared/below/../../j", "w").close()
for name in [*names, "shared/g", "shared/below/h", "shared/i"]:
    check(os.stat(name).st_gid, 50, name)
check(os.stat("j").st_gid, 0, "a file beside such directories")

# The same when it has begun to do so a moment ago, or when another directory has its name.
os.mkdir("turning")
os.chown("turning", 0, 50)
os.mkdir("handing")
os.chown("handing", 0, 50)
os.chmod("handing", 0o2775)
os.symlink("turning", "either")


def made(name):
    open(name, "w").close()
    return os.stat(name).st_gid


for round in range(10):
    check(made(f"turning/a{round}"), 0, "a file in a directory like others")
    os.chmod("turning", 0o2775)
    check(made(f"turning/b{round}"), 50, "a file in a directory that hands on its group")
    os.chmod("turning", 0o755)
    check(made(f"turning/c{round}"), 0, "a file in a directory like others")
    check(in_child(lambda: os.chmod("turning", 0o2755)), 0, "a child that changes a directory")
    check(made(f"turning/d{round}"), 50, "a file in a directory that a child has changed")
    os.fchmod(os.open("turning", os.O_RDONLY), 0o755)
    check(made(f"turning/e{round}"), 0, "a file in a directory like others")
    # With a directory to begin in, by another system call.
    beginning = os.open(here, os.O_RDONLY)
    os.chmod("turning", 0o2755, dir_fd=beginning)
    check(made(f"turning/i{round}"), 50, "a file in a directory that hands on its group")
    os.chmod("turning", 0o755, dir_fd=beginning)
    check(made(f"turning/j{round}"), 0, "a file in a directory like others")
    os.close(beginning)
    os.rename("turning", "aside")
    os.rename("handing", "turning")
    check(made(f"turning/f{round}"), 50, "a file in a directory that was exchanged")
    os.rename("turning", "handing")
    os.rename("aside", "turning")
    check(made(f"{here}/either/g{round}"), 0, "a file behind a link")
    os.remove("either")
    os.symlink("handing", "either")
    check(made(f"{here}/either/h{round}"), 50, "a file behind another link")
    os.remove("either")
    os.symlink("turning", "either")

# Threads go elsewhere together, whoever of them goes; a child goes alone.
os.mkdir("there")
there = os.open("there", os.O_RDONLY)
for round in range(40):
    open(f"before{round}", "w").close()
    go = (lambda: os.chdir("there")) if round % 2 else (lambda: os.fchdir(there))
    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    open(f"after{round}", "w").close()
    check(os.path.exists(f"after{round}"), True, "a file made elsewhere")
    check(os.path.exists(f"{here}/there/after{round}"), True, "a file made elsewhere")
    check(in_child(lambda: os.chdir(here)), 0, "a child that goes elsewhere")
    check(os.access(f"after{round}", os.R_OK), True, "a file here")
    os.chdir(here)

# A file without a name gets one, and keeps its owner.
os.setegid(50)
unnamed = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
here = os.open(".", os.O_RDONLY)
os.link(f"/proc/self/fd/{unnamed}", "named", dst_dir_fd=here, follow_symlinks=True)
check((os.stat("named").st_uid, os.stat("named").st_gid), (0, 50), "a file that had no name")
os.setegid(0)

# Times of what a descriptor is open for: AT_EMPTY_PATH.
check(libc.utimensat(files[0], b"", None, 0x1000), 0, "times by a descriptor")

# Hard links share an owner; a copy of a name does not lose it.
os.link("named", "other")
os.chown("other", 5, 6)
os.rename("named", "renamed")
check((os.stat("renamed").st_uid, os.stat("renamed").st_nlink), (5, 2), "a hard link")
print("as root")
