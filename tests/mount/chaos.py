#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one program does to its replica while others do the same to theirs, and whether what was promised is there.

chaos.py write DIRECTORY LEDGER SEED     until it is terminated; the directory is one of the mount
chaos.py check DIRECTORY LEDGER...

Each content is a token. In the ledger: "promised TOKEN" once fsync has returned; "replaced TOKEN" before a file that was
read as holding it is written over through the same handle, or removed. What is promised and not replaced must be in the tree.
"""
import os
import random
import signal
import sys


class Stop(Exception):
    pass


class Writer:
    def __init__(self, top, ledger, seed):
        self.top, self.rng, self.seed, self.count = top, random.Random(seed), seed, 0
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
        return os.path.join(self.directory(), f'f{self.rng.randrange(30)}')

    def put(self, fd, token):
        os.write(fd, token.encode() + b' ' + b'x' * self.rng.choice((0, 100, 5000, 200000)))
        os.fsync(fd)
        self.note('promised', token)

    def create(self):
        # Never the top itself: while no daemon runs, what is there is the disk below the mount point.
        for directory in ('a', 'a/b', 'c', 'c/d', 'c/d/e'):
            if self.rng.random() < 0.02 and not os.path.exists(os.path.join(self.top, directory)):
                os.mkdir(os.path.join(self.top, directory))
        fd = os.open(self.name(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            self.put(fd, self.token())
        finally:
            os.close(fd)

    def existing(self):
        directory = self.directory()
        names = [name for name in os.listdir(directory) if os.path.isfile(os.path.join(directory, name))]
        return os.path.join(directory, self.rng.choice(names)) if names else None

    def replace(self):
        path = self.existing()
        if not path:
            return
        fd = os.open(path, os.O_RDWR)
        try:
            old = os.read(fd, 100).split(b' ')[0].decode()
            self.note('replaced', old)
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            self.put(fd, self.token())
        finally:
            os.close(fd)

    def rename(self):
        path = self.existing()
        target = self.name()
        if path and not os.path.exists(target):
            os.link(path, target)   # never over something that was not read
            os.unlink(path)

    def move_directory(self):
        os.rename(os.path.join(self.top, self.rng.choice(('a/b', 'c/d', 'c'))),
                  os.path.join(self.top, self.rng.choice(('a/b', 'c/d', 'a/z', 'moved'))))

    def step(self):
        self.rng.choice((self.create, self.create, self.replace, self.replace, self.rename, self.move_directory))()

    def run(self):
        while True:
            try:
                self.step()
            except (OSError, UnicodeDecodeError):
                pass    # taken, gone, no daemon just now: that is what this is about


def write(top, ledger, seed):
    def stop(*_):
        raise Stop
    signal.signal(signal.SIGTERM, stop)
    try:
        Writer(top, ledger, seed).run()
    except Stop:
        pass


def check(top, ledgers):
    promised, replaced, found = set(), set(), set()
    for ledger in ledgers:
        with open(ledger, encoding='ascii') as lines:
            for line in lines:
                what, token = line.split()
                (promised if what == 'promised' else replaced).add(token)
    for directory, names, files in os.walk(top):
        if '.evfs' in names:
            names.remove('.evfs')
        for name in files:
            with open(os.path.join(directory, name), 'rb') as file:
                found.add(file.read(100).split(b' ')[0].decode())
    lost = promised - replaced - found
    print(f'# {len(promised)} promised, {len(replaced)} replaced, {len(found)} found, {len(lost)} lost: {sorted(lost)[:5]}')
    return 1 if lost or not promised else 0


if __name__ == '__main__':
    if sys.argv[1] == 'write':
        write(*sys.argv[2:5])
    else:
        sys.exit(check(sys.argv[2], sys.argv[3:]))
