/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CityHash64's loop over long input, written once for every kernel. The file that includes this defines the type
 * `lanes` first: a uint64_t, or a vector of them that holds one page's word in each lane. */
#ifndef PLOVER_CITYHASH_H
#define PLOVER_CITYHASH_H

#include <stdint.h>

enum { BLOCK = 64, BLOCK_WORDS = 8 };
static const uint64_t K1 = 0xb492b66fbe98f273u, MUL = 0x9ddfea08eb382d69u;

/* The state must stay in registers over the whole loop. */
#define INLINE static inline __attribute__((always_inline))

typedef struct { lanes low, high; } pair;
typedef struct { lanes x, y, z; pair v, w; } state;

INLINE lanes rotate(lanes v, unsigned by) { return v >> by | v << (64 - by); }
INLINE lanes mix(lanes v) { return v ^ v >> 47; }

INLINE lanes join(lanes u, lanes v, uint64_t mul)
{
    lanes a = mix((u ^ v) * mul);
    return mix((v ^ a) * mul) * mul;
}

INLINE pair weak32(const lanes word[4], lanes a, lanes b)
{
    lanes c;
    a += word[0];
    b = rotate(b + a + word[3], 21);
    c = a;
    a += word[1] + word[2];
    b += rotate(a, 44);
    return (pair){a + word[3], b + c};
}

/* first: the input's first word; last: its last block; size: its length in bytes, more than one block. */
INLINE void start(state *st, lanes first, const lanes last[BLOCK_WORDS], uint64_t size)
{
    st->x = last[3];
    st->y = last[6] + last[1];
    st->z = join(last[2] + size, last[5], MUL);
    st->v = weak32(last, (lanes){0} + size, st->z);
    st->w = weak32(last + 4, st->y + K1, st->x);
    st->x = st->x * K1 + first;
}

INLINE void block(state *st, const lanes word[BLOCK_WORDS])
{
    lanes swap;
    st->x = rotate(st->x + st->y + st->v.low + word[1], 37) * K1;
    st->y = rotate(st->y + st->v.high + word[6], 42) * K1;
    st->x ^= st->w.high;
    st->y += st->v.low + word[5];
    st->z = rotate(st->z + st->w.low, 33) * K1;
    st->v = weak32(word, st->v.high * K1, st->x + st->w.low);
    st->w = weak32(word + 4, st->z + st->w.high, st->y + word[2]);
    swap = st->z, st->z = st->x, st->x = swap;
}

INLINE lanes finish(const state *st)
{
    return join(join(st->v.low, st->w.low, MUL) + mix(st->y) * K1 + st->z,
                join(st->v.high, st->w.high, MUL) + st->x, MUL);
}

#endif
