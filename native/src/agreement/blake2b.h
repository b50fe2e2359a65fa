/* SPDX-License-Identifier: GPL-3.0-or-later */
/* BLAKE2b with a digest of 8 bytes and no key (RFC 7693): what protocol/segments.py calls a digest. */
#ifndef PLOVER_BLAKE2B_H
#define PLOVER_BLAKE2B_H

#include <stddef.h>
#include <stdint.h>

enum { BLAKE2B_BLOCK = 128 };

typedef struct {
    uint64_t state[8];
    uint64_t bytes; /* taken in, without those that wait in `block` */
    size_t waiting;
    uint8_t block[BLAKE2B_BLOCK];
} blake2b;

void blake2b_begin(blake2b *b);
void blake2b_add(blake2b *b, const void *data, size_t n);
/* The digest, read as a big-endian number. */
uint64_t blake2b_end(blake2b *b);

static inline uint64_t digest_of(const void *data, size_t n)
{
    blake2b b;
    blake2b_begin(&b);
    blake2b_add(&b, data, n);
    return blake2b_end(&b);
}

#endif
