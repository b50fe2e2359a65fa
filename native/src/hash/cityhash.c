/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CityHash64, written from the definition of the algorithm (Pike and Alakuijala, Google, 2011).
 * Little-endian hosts only; checked at compile time. */
#include "hash/hash.h"

#include <string.h>

typedef uint64_t lanes;
#include "hash/cityhash.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "CityHash64 here is for little-endian hosts"
#endif

static const uint64_t K0 = 0xc3a5c85c97cb3127u, K2 = 0x9ae16a3b2f90404fu;

static inline uint64_t word(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint64_t half(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }

static uint64_t upto16(const uint8_t *s, size_t n)
{
    if (n >= 8) {
        uint64_t mul = K2 + n * 2, a = word(s) + K2, b = word(s + n - 8);
        return join(rotate(b, 37) * mul + a, (rotate(a, 25) + b) * mul, mul);
    }
    if (n >= 4) {
        uint64_t mul = K2 + n * 2;
        return join(n + (half(s) << 3), half(s + n - 4), mul);
    }
    if (n > 0) {
        uint32_t y = s[0] + ((uint32_t)s[n >> 1] << 8), z = (uint32_t)n + ((uint32_t)s[n - 1] << 2);
        return mix(y * K2 ^ z * K0) * K2;
    }
    return K2;
}

static uint64_t upto32(const uint8_t *s, size_t n)
{
    uint64_t mul = K2 + n * 2, a = word(s) * K1, b = word(s + 8), c = word(s + n - 8) * mul, d = word(s + n - 16) * K2;
    return join(rotate(a + b, 43) + rotate(c, 30) + d, a + rotate(b + K2, 18) + c, mul);
}

static uint64_t upto64(const uint8_t *s, size_t n)
{
    uint64_t mul = K2 + n * 2;
    uint64_t a = word(s) * K2, b = word(s + 8), c = word(s + n - 24), d = word(s + n - 32);
    uint64_t e = word(s + 16) * K2, f = word(s + 24) * 9, g = word(s + n - 8), h = word(s + n - 16) * mul;
    uint64_t u = rotate(a + g, 43) + (rotate(b, 30) + c) * 9;
    uint64_t v = ((a + g) ^ d) + f + 1;
    uint64_t w = __builtin_bswap64((u + v) * mul) + h;
    uint64_t x = rotate(e + f, 42) + c;
    uint64_t y = (__builtin_bswap64((v + w) * mul) + g) * mul;
    uint64_t z = e + f + c;
    a = __builtin_bswap64((x + z) * mul + y) + b;
    return mix((z + a) * mul + d + h) * mul + x;
}

INLINE void load(uint64_t words[BLOCK_WORDS], const uint8_t *s)
{
    for (unsigned i = 0; i < BLOCK_WORDS; i++) words[i] = word(s + 8 * i);
}

INLINE void begin(state *st, const uint8_t *s, size_t n)
{
    uint64_t last[BLOCK_WORDS];
    load(last, s + n - BLOCK);
    start(st, word(s), last, n);
}

INLINE void step(state *st, const uint8_t *s)
{
    uint64_t words[BLOCK_WORDS];
    load(words, s);
    block(st, words);
}

uint64_t plover_cityhash64(const void *data, size_t n)
{
    const uint8_t *s = data;
    state st;
    if (n <= 16) return upto16(s, n);
    if (n <= 32) return upto32(s, n);
    if (n <= 64) return upto64(s, n);
    begin(&st, s, n);
    for (size_t blocks = (n - 1) / BLOCK; blocks; blocks--, s += BLOCK) step(&st, s);
    return finish(&st);
}

/* ---- kernels ------------------------------------------------------------------------------------------------ */

static void hash_plain(const uint8_t *const pages[], const uint8_t *const ahead[], uint64_t out[])
{
    (void)ahead;
    out[0] = plover_cityhash64(pages[0], PLOVER_PAGE);
}

/* While one page waits for its multiplications, the other one is hashed. The registers hold no third page. Most of the gain
 * comes from fetching the next two pages: no hardware prefetcher crosses the end of a page. */
static void hash_pairs(const uint8_t *const pages[], const uint8_t *const ahead[], uint64_t out[])
{
    const uint8_t *a = pages[0], *b = pages[1], *c = ahead[0], *d = ahead[1];
    state sa, sb;
    begin(&sa, a, PLOVER_PAGE), begin(&sb, b, PLOVER_PAGE);
    for (unsigned at = 0; at < PLOVER_PAGE - BLOCK; at += BLOCK) {
        __builtin_prefetch(c + at), __builtin_prefetch(d + at);
        step(&sa, a + at), step(&sb, b + at);
    }
    __builtin_prefetch(c + PLOVER_PAGE - BLOCK), __builtin_prefetch(d + PLOVER_PAGE - BLOCK);
    out[0] = finish(&sa), out[1] = finish(&sb);
}

const struct hash_kernel plover_kernel_plain = {.name = "plain", .ways = 1, .hash = hash_plain};
const struct hash_kernel plover_kernel_pairs = {.name = "pairs", .ways = 2, .lead = 2, .hash = hash_pairs};

uint32_t plover_abi_version(void) { return PLOVER_ABI; }
