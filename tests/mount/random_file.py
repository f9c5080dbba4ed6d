#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random operations on one file, against a model in memory.

random_file.py PATH SEED STEPS BYTES_MAX: prints the first difference and the
step, exit 1; the seed replays it. In the spirit of fsx (Avadis Tevanian)."""
import ctypes
import mmap
import os
import random
import shutil
import sys

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


class Run:
    def __init__(self, path, seed, size_max):
        self.path, self.size_max = path, size_max
        self.rand = random.Random(seed)
        self.want = bytearray()
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.libc = ctypes.CDLL(None, use_errno=True)

    def check(self, got, want, what):
        if got == bytes(want):
            return
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b),
                  min(len(got), len(want)))
        sys.exit(f'{what}: {len(got)} bytes for {len(want)}, differ at {at}')

    def put(self, at, data):
        self.grow(at)
        self.want[at:at + len(data)] = data

    def grow(self, size):
        if size > len(self.want):
            self.want.extend(bytes(size - len(self.want)))

    def write(self, at, n):
        data = self.rand.randbytes(n)
        os.pwrite(self.fd, data, at)
        self.put(at, data)

    def read(self, at, n):
        self.check(os.pread(self.fd, n, at), self.want[at:at + n], 'read')

    def truncate(self, at, n):
        size = at if self.rand.random() < 0.7 else 0
        os.ftruncate(self.fd, size)
        del self.want[size:]
        self.grow(size)

    def map(self, at, n):
        if not self.want:
            return
        at %= len(self.want)
        data = self.rand.randbytes(min(n, len(self.want) - at))
        with mmap.mmap(self.fd, len(self.want)) as window:
            window[at:at + len(data)] = data
        self.put(at, data)

    def sync(self, at, n):
        os.fsync(self.fd)

    def fallocate(self, mode, at, n):
        return self.libc.fallocate(self.fd, mode, ctypes.c_long(at),
                                   ctypes.c_long(n)) == 0

    def punch(self, at, n):
        if self.fallocate(PUNCH_HOLE | KEEP_SIZE, at, n) and at < len(self.want):
            end = min(at + n, len(self.want))
            self.want[at:end] = bytes(end - at)

    def zero(self, at, n):
        if self.fallocate(ZERO_RANGE, at, n):
            self.put(at, bytes(n))

    def copy(self, at, n):
        if not self.want:
            return
        src = self.rand.randrange(len(self.want))
        n = min(n, len(self.want) - src)
        if at < src + n and src < at + n:
            return
        done = os.copy_file_range(self.fd, self.fd, n, src, at)
        self.put(at, self.want[src:src + done])

    def reopen(self, at, n):
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def size(self, at, n):
        got = os.fstat(self.fd).st_size
        if got != len(self.want):
            sys.exit(f'size: {got} for {len(self.want)}')

    def replace(self, at, n):
        copy = self.path + '.copy'
        shutil.copyfile(self.path, copy)
        with open(copy, 'rb') as f:
            self.check(f.read(), self.want, 'copy')
        os.rename(copy, self.path)
        self.reopen(at, n)

    def holes(self, at, n):
        at = 0
        while at < len(self.want):
            try:
                data = os.lseek(self.fd, at, os.SEEK_DATA)
            except OSError:
                data = len(self.want)
            if any(self.want[at:data]):
                sys.exit(f'hole at {at} to {data} has bytes')
            if data >= len(self.want):
                return
            at = os.lseek(self.fd, data, os.SEEK_HOLE)

    def run(self, steps):
        often = [self.write] * 4 + [self.read] * 4 + [self.truncate] * 2
        seldom = [self.map, self.sync, self.sync, self.punch, self.zero,
                  self.copy, self.reopen, self.size, self.replace, self.holes]
        for step in range(steps):
            at = self.rand.randrange(self.size_max)
            n = self.rand.randrange(1, self.rand.choice([100, 5000, 300000]))
            if self.rand.random() < 0.3:
                at &= ~4095
            op = self.rand.choice(often + seldom)
            try:
                op(at, n)
            except SystemExit as e:
                sys.exit(f'step {step} {op.__name__}: {e}')
        self.read(0, self.size_max * 2)
        os.close(self.fd)
        with open(self.path, 'rb') as f:
            self.check(f.read(), self.want, 'at the end')


if __name__ == '__main__':
    Run(sys.argv[1], int(sys.argv[2]), int(sys.argv[4])).run(int(sys.argv[3]))
