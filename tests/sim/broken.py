#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Breaks one rule of evfs at a time, in a copy of the source, and says after
how many histories the simulation notices. A rule whose loss nobody notices is
a rule without a test.

usage: tests/sim/broken.py [--seeds N] [--first S] [--keep DIR] [RULE...]

Without names: all rules, up to 1000 seeds each from 1 on. The exit status is 1
if one was not caught. Where the source has moved on so that a rule can no
longer be broken like this, that is an error, too. docs/TESTING.md has a table
of what came out.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
TIMEOUT_S = 1800    # for the histories of one rule

# name, what is broken, file, text that stands there once, text instead
RULES = [
    ('tie-break', 'of two places of a link each replica keeps its own',
     'meta/merge.c',
     'evfs_place_order(&x->place, &y->place) >= 0', 'true'),
    ('attr-tie-break', 'of two values of a register each keeps its own',
     'meta/merge.c',
     'evfs_attr_order(x, y) < 0', 'false'),
    ('rows-not-joined', 'rows of an object stay as they were here',
     'meta/merge.c',
     'if (x == NULL || (y != NULL && x->counter < y->counter))',
     'if (x == NULL)'),
    ('context-not-advanced', 'the context stays at the end of a stream',
     'net/apply.c',
     'r = evfs_meta_take_context(engine->meta, &incoming->snap, err);',
     'r = 0;'),
    ('context-too-early', 'the context moves when a stream begins',
     'net/apply.c',
     '\tincoming->id = begin->stream;\n',
     '\tevfs_meta_lock(engine->meta);\n'
     '\tr = evfs_meta_take_context(engine->meta, &incoming->snap, err);\n'
     '\tevfs_meta_unlock(engine->meta);\n'
     '\tif (r < 0)\n\t\treturn r;\n'
     '\tincoming->id = begin->stream;\n'),
    ('collect-unreported', 'condition 1: collected before all have reported',
     'meta/collect.c',
     '\treturn pass->reports.ready &&\n'
     '\t       evfs_object_log_covered(object, &pass->reports.all);',
     '\treturn object->n_log > 0 && pass->reports.ready;'),
    ('collect-behind', 'condition 2: collected while behind the reports',
     'meta/collect_reports.c',
     '\tif (reports->behind)\n\t\treports->ready = false;\n', ''),
    ('collect-named', 'condition 3: collected though a record names it',
     'meta/collect.c',
     'int rc = group_close(pass, &group, ret_gone);',
     'int rc = 0;\n\n\t(void)group_close;\n\t*ret_gone = true;'),
    ('collect-open', 'the collector does not hear of closed files',
     'meta/collect.c',
     '\t    !any_closed(pass) &&\n',
     '\t    (any_closed(pass) || true) &&\n'),
    ('lease', 'counting goes on from the last commit after a crash',
     'meta/db_commit.c',
     '\tif (store->lease > store->counter)\n'
     '\t\tstore->counter = store->lease;\n', ''),
    ('durable-first', 'peers are told of changes before the commit',
     'net/engine.c',
     '\tr = read_durable(engine, &context, &root);\n',
     '\tr = read_durable(engine, &context, &root);\n'
     '\tif (r == 0)\n'
     '\t\tr = evfs_context_join(&context,\n'
     '\t\t\t\t      evfs_meta_context(engine->meta));\n'),
    ('held-early', 'a quorum is answered before the object is on disk',
     'net/quorum_serve.c',
     '\tdurable = hold->here &&\n'
     '\t\t  evfs_meta_durable_generation(engine->meta) >= hold->seen;\n',
     '\tdurable = hold->here;\n'),
    ('sibling-names', 'names of siblings depend on where they are looked at',
     'meta/sibling.c',
     'hash = evfs_hash_bytes(input, (size_t)len + salt_len);',
     'static unsigned calls;\n\n\t'
     'memcpy(input, &(unsigned){ ++calls / 64 }, sizeof(unsigned));\n\t'
     'hash = evfs_hash_bytes(input, (size_t)len + salt_len);'),
    ('cursor-early', 'a member counts as informed when the stream was sent',
     'net/push.c',
     '\tevfs_push_fini(session);\n\tif (session->out.paced)',
     '\tif (evfs_context_join(&session->peer->report.context,\n'
     '\t\t\t      &session->assumed) < 0)\n\t\treturn EVFS_ENOMEM;\n'
     '\tsession->peer->report.unsaved = true;\n'
     '\tevfs_push_fini(session);\n\tif (session->out.paced)'),
    ('repair-overwrites', 'comparing puts the other\'s object in place of ours',
     'meta/delta_apply.c',
     '\t\trc = evfs_merge(mine, &none, theirs, &none, ret, err);',
     '\t\trc = evfs_merge(theirs, &none, theirs, &none, ret, err);'),
    ('split-ties', 'the objects of one operation travel apart',
     'meta/delta.c',
     'if (!delta_covered(delta, end->ino, end->dot))',
     'if (!delta_covered(delta, end->ino, end->dot) && false)'),
    ('write-absorbs', 'a write replaces all versions, not its base only',
     'meta/tree_write.c',
     'while (!alive && object->n_versions > 0)',
     'while (object->n_versions > 0)'),
    ('unlink-alone', 'unlink does not assert the other names again',
     'meta/tree_edit.c',
     '\t\trc = evfs_tx_set_alive(tx, ino, &object->links[i].id, true);\n',
     '\t\trc = 0;\n'),
    ('amnesia-unseen', 'nobody minds a replica that knows too little of itself',
     'net/memory.c',
     '\tif (lost == 0)\n\t\treturn false;\n\tsnprintf',
     '\tif (lost == 0 || epoch > 0 || true)\n\t\treturn false;\n\tsnprintf'),
    ('no-audit', 'a restored replica gives before it has heard everybody',
     'meta/life.c',
     '\tstore->amnesia = true;\n', '\tstore->amnesia = false;\n'),
    ('removed-counts', 'an answer of a removed member counts for a quorum',
     'net/quorum.c',
     'n += peer != NULL && !peer->member.removed;', 'n += peer != NULL;'),
    ('content-refused', 'a member does not give a content that it has',
     'net/serve.c',
     '\tif (data == NULL) {\n\t\tno_chunk.hashes',
     '\tif (data == NULL || hash->b[0] % 16 == 0) {\n\t\tno_chunk.hashes'),
    ('audit-starves', 'the wait for an audit begins anew with each stream',
     'net/report.c',
     '\tif (peer->unequal_ns == 0)\n'
     '\t\tpeer->repair_full = peer->repair_pulled = false;\n',
     '\tif (peer->unequal_ns == 0 || peer->report.receiving ||\n'
     '\t    evfs_engine_receiving(engine))\n'
     '\t\tpeer->repair_full = peer->repair_pulled = false;\n'),
]


def say(*text):
    print(*text, flush=True)


def run(command, where, **options):
    return subprocess.run(command, cwd=where, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True,
                          errors='replace', **options)


def must(command, where):
    done = run(command, where)
    if done.returncode:
        sys.exit('%s: %s\n%s' % (' '.join(command), done.returncode,
                                 done.stdout[-3000:]))


def edit(root, path, old, new):
    """Returns the text that was there."""
    name = os.path.join(root, path)
    with open(name, encoding='utf-8') as file:
        text = file.read()
    if text.count(old) != 1:
        sys.exit('%s: the rule stands there %d times, not once: %r'
                 % (path, text.count(old), old))
    with open(name, 'w', encoding='utf-8') as file:
        file.write(text.replace(old, new))
    return text


def prepare(root):
    # copied anew, so that what was broken before is compiled again
    shutil.copytree(TOP, root, dirs_exist_ok=True,
                    copy_function=shutil.copy,
                    ignore=shutil.ignore_patterns('.git', '*.o', '*.lo'))
    if not os.path.exists(os.path.join(root, 'configure')):
        must(['autoreconf', '-i'], root)
    build = os.path.join(root, 'build')
    os.makedirs(build, exist_ok=True)
    must(['../configure', '-q', 'CFLAGS=-O2 -g -w'], build)
    must(['make', '-s', '-j2', 'tests/sim/run'], build)
    return build


def try_rule(root, build, rule, first, seeds):
    """Whether it was caught; says so."""
    name, what, path, old, new = rule
    text = edit(root, path, old, new)
    must(['make', '-s', 'tests/sim/run'], build)
    try:
        done = run(['tests/sim/run', '--seed', str(first), '--runs',
                    str(seeds)], build, timeout=TIMEOUT_S)
        found = re.search(r'seed (\d+) FAILED (.*)', done.stdout)
        code = done.returncode
    except subprocess.TimeoutExpired:
        found, code = None, 'no end'
    with open(os.path.join(root, path), 'w', encoding='utf-8') as file:
        file.write(text)
    if found:
        say('| `%s` | %s | %d | %s |' % (
            name, what, int(found.group(1)) - first + 1,
            re.sub(r'^at [0-9.]+ s: ', '', found.group(2))[:50]))
    else:
        say('| `%s` | %s | NOT in %d | %s |' % (name, what, seeds, code))
    return bool(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seeds', type=int, default=1000)
    parser.add_argument('--first', type=int, default=1)
    parser.add_argument('--keep', help='build there, and leave it')
    parser.add_argument('rules', nargs='*')
    args = parser.parse_args()
    unknown = set(args.rules) - {rule[0] for rule in RULES}
    if unknown:
        sys.exit('no such rule: ' + ', '.join(sorted(unknown)))
    root = args.keep or tempfile.mkdtemp(prefix='evfs-broken.')
    missed = 0
    try:
        build = prepare(root)
        say('| rule | broken | caught after | by |')
        say('| --- | --- | --- | --- |')
        for rule in RULES:
            if args.rules and rule[0] not in args.rules:
                continue
            missed += not try_rule(root, build, rule, args.first, args.seeds)
    finally:
        if not args.keep:
            shutil.rmtree(root, ignore_errors=True)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
