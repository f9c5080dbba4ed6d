#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one program does to its replica while others do the same to theirs, and whether what was promised is there.

chaos.py write DIRECTORY LEDGER SEED     until it is terminated; the directory is one of the mount
chaos.py check DIRECTORY LEDGER...

Each content is a token. In the ledger: "promised TOKEN" once fsync has returned; "replaced TOKEN" before a file that was
read as holding it is written over through the same handle, or removed. What is promised and not replaced must be in the tree.
Then "count OPERATION N" of what succeeded and what did not.

What is removed by its name must not have been changed by others since it was read: so a writer removes only files of its
own names, which nobody else writes to, and moves others by a rename that replaces nothing.
"""
import collections
import ctypes
import os
import random
import signal
import sys
import time


LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_NOREPLACE = -100, 1


class Writer:
    def __init__(self, top, ledger, seed):
        self.top, self.rng, self.seed, self.count = top, random.Random(seed), seed, 0
        self.counts = collections.Counter()
        self.stopped = False
        self.ledger = open(ledger, 'a', encoding='ascii')

    def note(self, what, token):
        self.ledger.write(f'{what} {token}\n')
        self.ledger.flush()

    def token(self):
        self.count += 1
        return f'{self.seed}-{os.getpid()}-{self.count}'

    def directory(self):
        return os.path.join(self.top, self.rng.choice(('', 'a', 'a/b', 'c', 'c/d', 'c/d/e')))

    def name(self):
        return os.path.join(self.directory(), f'f{self.rng.randrange(60)}')

    def put(self, fd, token):
        os.write(fd, token.encode() + b' ' + b'x' * self.rng.choice((0, 100, 5000, 200000)))
        os.fsync(fd)
        self.note('promised', token)

    def create(self, path=None):
        # Never the top itself: while no daemon runs, what is there is the disk below the mount point.
        for directory in ('a', 'a/b', 'c', 'c/d', 'c/d/e'):
            if self.rng.random() < 0.02 and not os.path.exists(os.path.join(self.top, directory)):
                os.mkdir(os.path.join(self.top, directory))
        fd = os.open(path or self.name(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            self.put(fd, self.token())
        finally:
            os.close(fd)

    def create_own(self):
        self.create(os.path.join(self.directory(), f'own-{self.seed}-{self.rng.randrange(8)}'))

    def is_own(self, name):
        return name.startswith(f'own-{self.seed}-')

    def existing(self, wanted=lambda name: not name.startswith('own-')):
        directory = self.directory()
        names = [name for name in os.listdir(directory)
                 if wanted(name) and os.path.isfile(os.path.join(directory, name))]
        return os.path.join(directory, self.rng.choice(names)) if names else None

    def replace(self):
        path = self.existing()
        if not path:
            return False
        fd = os.open(path, os.O_RDWR)
        try:
            old = os.read(fd, 100).split(b' ')[0].decode()
            self.note('replaced', old or 'nothing')
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            self.put(fd, self.token())
        finally:
            os.close(fd)
        return True

    def change(self):
        """Behind the token, without a sync."""
        path = self.existing()
        if not path:
            return False
        fd = os.open(path, os.O_WRONLY)
        try:
            os.pwrite(fd, b'y' * self.rng.choice((1, 300, 40000)), 100 + self.rng.randrange(100000))
        finally:
            os.close(fd)
        return True

    def remove(self):
        path = self.existing(self.is_own)
        if not path:
            return False
        with open(path, 'rb') as file:
            self.note('replaced', file.read(100).split(b' ')[0].decode() or 'nothing')
        os.unlink(path)
        return True

    def rename(self):
        path = self.existing(lambda name: True)
        if not path:
            return False
        if LIBC.renameat2(AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(self.name()), RENAME_NOREPLACE):
            raise OSError(ctypes.get_errno(), 'renameat2')
        return True

    def link(self):
        path = self.existing()
        if not path:
            return False
        os.link(path, self.name())
        return True

    def change_mode(self):
        path = self.existing(lambda name: True)
        if not path:
            return False
        os.chmod(path, self.rng.choice((0o600, 0o640, 0o644)))
        return True

    def remove_directory(self):
        os.rmdir(os.path.join(self.top, self.rng.choice(('a/b', 'a/z', 'c/d/e', 'moved'))))

    def move_directory(self):
        os.rename(os.path.join(self.top, self.rng.choice(('a/b', 'c/d', 'c'))),
                  os.path.join(self.top, self.rng.choice(('a/b', 'c/d', 'a/z', 'moved'))))

    def step(self):
        operation = self.rng.choice((
            self.create, self.create, self.create_own, self.replace, self.replace, self.change, self.remove, self.rename,
            self.link, self.change_mode, self.move_directory, self.remove_directory))
        try:
            done = operation()
        except (OSError, UnicodeDecodeError):
            done = False    # taken, gone, no daemon just now: that is what this is about
        self.counts[operation.__name__ if done is not False else 'not possible'] += 1
        if done is False:
            time.sleep(0.001)   # the others have two processors to share

    def run(self):
        while not self.stopped:
            self.step()


def write(top, ledger, seed):
    writer = Writer(top, ledger, seed)

    def stop(*_):
        writer.stopped = True
    signal.signal(signal.SIGTERM, stop)
    writer.run()
    for operation, n in writer.counts.items():
        writer.note(f'count {operation.replace(" ", "_")}', n)


def check(top, ledgers):
    counts, known, found = collections.Counter(), {'promised': set(), 'replaced': set()}, set()
    for ledger in ledgers:
        with open(ledger, encoding='ascii') as lines:
            for what, *rest in map(str.split, lines):
                if what == 'count':
                    counts[rest[0]] += int(rest[1])
                else:
                    known[what].update(rest)
    for directory, names, files in os.walk(top):
        if '.evfs' in names:
            names.remove('.evfs')
        for name in files:
            with open(os.path.join(directory, name), 'rb') as file:
                found.add(file.read(100).split(b' ')[0].decode())
    lost = known['promised'] - known['replaced'] - found
    print(f'# {sum(counts.values()) - counts["not_possible"]} operations:',
          ', '.join(f'{operation} {n}' for operation, n in sorted(counts.items())))
    print(f'# {len(known["promised"])} promised, {len(known["replaced"])} replaced, {len(found)} found, '
          f'{len(lost)} lost: {sorted(lost)[:5]}')
    return 1 if lost or not known['promised'] else 0


if __name__ == '__main__':
    if sys.argv[1] == 'write':
        write(*sys.argv[2:5])
    else:
        sys.exit(check(sys.argv[2], sys.argv[3:]))
