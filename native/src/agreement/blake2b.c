/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Written from RFC 7693, sections 2.5 to 3.3. */
#include "blake2b.h"

#include <string.h>

enum { ROUNDS = 12, DIGEST_BYTES = 8 };

static const uint64_t IV[8] = {0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
                               0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};

/* Which word of the block goes where, by round; rounds 10 and 11 are as 0 and 1. */
static const uint8_t SIGMA[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static inline uint64_t rotate(uint64_t x, unsigned bits)
{
    return x >> bits | x << (64 - bits);
}

static inline void mix(uint64_t *v, int a, int b, int c, int d, uint64_t x, uint64_t y)
{
    v[a] += v[b] + x;
    v[d] = rotate(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = rotate(v[b] ^ v[c], 24);
    v[a] += v[b] + y;
    v[d] = rotate(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = rotate(v[b] ^ v[c], 63);
}

/* Plover runs on little-endian hosts only, so the block is read as it lies. */
static void compress(blake2b *b, const uint8_t *block, uint64_t bytes, int last)
{
    uint64_t v[16], m[16];
    memcpy(m, block, sizeof m);
    memcpy(v, b->state, sizeof b->state);
    memcpy(v + 8, IV, sizeof IV);
    v[12] ^= bytes;
    if (last) v[14] = ~v[14];
    for (int round = 0; round < ROUNDS; round++) {
        const uint8_t *s = SIGMA[round % 10];
        mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]]);
        mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]]);
        mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]]);
        mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]]);
        mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]]);
        mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]]);
        mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]]);
        mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]]);
    }
    for (int i = 0; i < 8; i++) b->state[i] ^= v[i] ^ v[i + 8];
}

void blake2b_begin(blake2b *b)
{
    memcpy(b->state, IV, sizeof IV);
    b->state[0] ^= 0x01010000u ^ DIGEST_BYTES; /* depth 1, fanout 1, no key */
    b->bytes = b->waiting = 0;
}

void blake2b_add(blake2b *b, const void *data, size_t n)
{
    const uint8_t *from = data;
    while (n) { /* a full block waits, too: the last one is compressed otherwise */
        if (b->waiting == BLAKE2B_BLOCK) {
            b->bytes += BLAKE2B_BLOCK;
            compress(b, b->block, b->bytes, 0);
            b->waiting = 0;
        }
        const size_t room = BLAKE2B_BLOCK - b->waiting, part = n < room ? n : room;
        memcpy(b->block + b->waiting, from, part);
        b->waiting += part, from += part, n -= part;
    }
}

uint64_t blake2b_end(blake2b *b)
{
    memset(b->block + b->waiting, 0, BLAKE2B_BLOCK - b->waiting);
    compress(b, b->block, b->bytes + b->waiting, 1);
    return __builtin_bswap64(b->state[0]);
}
