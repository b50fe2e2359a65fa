/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CityHash64, written from the definition of the algorithm (Pike and Alakuijala, Google, 2011).
 * Little-endian hosts only; checked at compile time. */
#include "plover_native.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "CityHash64 here is for little-endian hosts"
#endif

static const uint64_t K0 = 0xc3a5c85c97cb3127u, K1 = 0xb492b66fbe98f273u, K2 = 0x9ae16a3b2f90404fu;
static const uint64_t MUL = 0x9ddfea08eb382d69u;

typedef struct { uint64_t low, high; } pair;

static inline uint64_t word(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint64_t half(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t rotate(uint64_t v, unsigned by) { return v >> by | v << (64 - by); }
static inline uint64_t mix(uint64_t v) { return v ^ v >> 47; }

static inline uint64_t join(uint64_t u, uint64_t v, uint64_t mul)
{
    uint64_t a = mix((u ^ v) * mul);
    return mix((v ^ a) * mul) * mul;
}

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

static inline pair weak32(const uint8_t *s, uint64_t a, uint64_t b)
{
    uint64_t w = word(s), x = word(s + 8), y = word(s + 16), z = word(s + 24), c;
    a += w;
    b = rotate(b + a + z, 21);
    c = a;
    a += x + y;
    b += rotate(a, 44);
    return (pair){a + z, b + c};
}

/* The state of the long loop, 56 bytes that stay in registers. */
typedef struct { uint64_t x, y, z; pair v, w; } state;

static inline void start(state *st, const uint8_t *s, size_t n)
{
    st->x = word(s + n - 40);
    st->y = word(s + n - 16) + word(s + n - 56);
    st->z = join(word(s + n - 48) + n, word(s + n - 24), MUL);
    st->v = weak32(s + n - 64, n, st->z);
    st->w = weak32(s + n - 32, st->y + K1, st->x);
    st->x = st->x * K1 + word(s);
}

static inline void block(state *st, const uint8_t *s)
{
    uint64_t swap;
    st->x = rotate(st->x + st->y + st->v.low + word(s + 8), 37) * K1;
    st->y = rotate(st->y + st->v.high + word(s + 48), 42) * K1;
    st->x ^= st->w.high;
    st->y += st->v.low + word(s + 40);
    st->z = rotate(st->z + st->w.low, 33) * K1;
    st->v = weak32(s, st->v.high * K1, st->x + st->w.low);
    st->w = weak32(s + 32, st->z + st->w.high, st->y + word(s + 16));
    swap = st->z, st->z = st->x, st->x = swap;
}

static inline uint64_t finish(const state *st)
{
    return join(join(st->v.low, st->w.low, MUL) + mix(st->y) * K1 + st->z,
                join(st->v.high, st->w.high, MUL) + st->x, MUL);
}

uint64_t plover_cityhash64(const void *data, size_t n)
{
    const uint8_t *s = data;
    state st;
    if (n <= 16) return upto16(s, n);
    if (n <= 32) return upto32(s, n);
    if (n <= 64) return upto64(s, n);
    start(&st, s, n);
    for (size_t blocks = (n - 1) / 64; blocks; blocks--, s += 64) block(&st, s);
    return finish(&st);
}

uint32_t plover_abi_version(void) { return PLOVER_ABI; }
