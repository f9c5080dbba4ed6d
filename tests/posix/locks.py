#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks (flock, POSIX records, open file descriptions), and programs that run while they are written: prints what each call does, in a
directory, for a comparison with another file system. Usage: locks.py DIRECTORY"""
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import sys

RECORD = 'hhqqi4x'  # struct flock: type, whence, start, len, pid
F_OFD_SETLK = 37
LEN = 100


def result(call, *args):
    """'ok', or the name of the error."""
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'ok'


def in_child(call):
    """What call() returns in another process."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(into, str(call()).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as text:
        said = text.read()
    os.waitpid(pid, 0)
    return said


def opened(flags=os.O_RDWR, name='file'):
    return os.open(name, flags)


def record(fd, command, kind, start=0, length=0):
    return struct.unpack(RECORD, fcntl.fcntl(fd, command, struct.pack(RECORD, kind, os.SEEK_SET, start, length, 0)))


def try_flock(fd, kind):
    return result(fcntl.flock, fd, kind | fcntl.LOCK_NB)


def try_record(start=0, length=0, flags=os.O_RDWR, kind=fcntl.F_WRLCK):
    return result(record, opened(flags), fcntl.F_SETLK, kind, start, length)


def of_flock():
    one, other = opened(), opened()
    fcntl.flock(one, fcntl.LOCK_SH)
    print('two share', try_flock(other, fcntl.LOCK_SH))
    print('no writer beside them', try_flock(other, fcntl.LOCK_EX))
    fcntl.flock(other, fcntl.LOCK_UN)
    print('the last becomes the writer', try_flock(one, fcntl.LOCK_EX))
    print('another process', in_child(lambda: try_flock(opened(os.O_RDONLY), fcntl.LOCK_SH)))
    print('its child has the same', in_child(lambda: try_flock(one, fcntl.LOCK_EX)))
    print('record locks are another matter', in_child(try_record))
    os.close(one)
    print('free at its close', try_flock(other, fcntl.LOCK_EX))
    os.close(other)


def of_records():
    fd = opened()
    record(fd, fcntl.F_SETLK, fcntl.F_WRLCK, 0, 10)
    print('within', in_child(lambda: try_record(5, 5)))
    print('behind', in_child(lambda: try_record(10, 5)))

    def holder():
        kind, _, start, length, pid = record(opened(), fcntl.F_GETLK, fcntl.F_WRLCK)
        return kind, start, length, pid == os.getppid()
    print('who holds it', in_child(holder))
    print('reading what is open for writing', try_record(20, 1, os.O_WRONLY, fcntl.F_RDLCK))
    print('writing what is open for reading', try_record(20, 1, os.O_RDONLY, fcntl.F_WRLCK))
    os.close(opened(os.O_RDONLY))
    print('gone at any close', in_child(lambda: try_record(5, 5)))
    os.close(fd)


def of_descriptions():
    one, other = opened(), opened()
    print('first', result(record, one, F_OFD_SETLK, fcntl.F_WRLCK, 0, 10))
    print('second', result(record, other, F_OFD_SETLK, fcntl.F_WRLCK, 5, 10))
    os.close(opened())
    print('another close', result(record, other, F_OFD_SETLK, fcntl.F_WRLCK, 5, 10))
    os.close(one)
    print('its own close', result(record, other, F_OFD_SETLK, fcntl.F_WRLCK, 5, 10))
    os.close(other)


def of_waiting():
    fd = opened()
    record(fd, fcntl.F_SETLK, fcntl.F_WRLCK)
    ready, at_it = os.pipe()
    pid = os.fork()
    if pid == 0:
        mine = opened()
        os.write(at_it, b'.')
        record(mine, fcntl.F_SETLKW, fcntl.F_WRLCK)
        os._exit(os.pread(mine, 1, 0) != b'W')  # what was written under the lock
    os.read(ready, 1)
    os.pwrite(fd, b'W', 0)
    record(fd, fcntl.F_SETLK, fcntl.F_UNLCK)
    print('one that waits', os.waitpid(pid, 0)[1])
    os.close(fd)


def of_programs():
    shutil.copy('/bin/cat', 'program')
    os.chmod('program', 0o755)
    with subprocess.Popen(['./program'], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        running.stdin.write(b'.')
        running.stdin.flush()
        running.stdout.read(1)  # it runs
        print('writing it', result(os.open, 'program', os.O_WRONLY))
        print('cutting it', result(os.open, 'program', os.O_RDWR | os.O_TRUNC), result(os.truncate, 'program', 5))
        print('reading it', result(os.open, 'program', os.O_RDONLY))
        shutil.copy('/bin/true', 'other')
        os.chmod('other', 0o755)
        print('replacing it', result(os.rename, 'other', 'program'))
        running.stdin.close()
        print('it went on', running.wait())
    fd = opened(os.O_WRONLY, 'program')
    print('running what is written', result(subprocess.run, ['./program']))
    os.close(fd)
    print('running it then', subprocess.run(['./program'], check=False).returncode)


def main():
    os.chdir(sys.argv[1])
    with open('file', 'wb') as out:
        out.write(b'.' * LEN)
    for part in of_flock, of_records, of_descriptions, of_waiting, of_programs:
        print(f'{part.__name__}:')
        part()


main()
