/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Blocks of pages: find those that differ, copy them out, patch pages with them.
 *
 * The hash of a block only tells which blocks need not be sent. The CityHash64 of a patched page tells whether the page is
 * right. So the block hash is made for speed: a key is added to each 32-bit word, pairs of words are multiplied, and the
 * products are summed (as NH of UMAC does). For two different blocks, the sums are equal for at most one key in 2^32; the fold
 * keeps 16 bits of the sum. */
#include "pages/page.h"
#include "threads/pool.h"

#include <emmintrin.h>
#include <string.h>

enum { VECTORS = PLOVER_BLOCK / 16 };
static const uint64_t FOLD = 0x9e3779b97f4a7c15u; /* 2^64 / golden ratio: odd, and its bits look random */
/* The first 32 bits after the binary point of the square roots of 2, 3, 5 ... 53: arbitrary numbers that nobody picked. */
static const uint32_t KEYS[PLOVER_BLOCK / 4] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    0xcbbb9d5d, 0x629a292a, 0x9159015a, 0x152fecd8, 0x67332667, 0x8eb44a87, 0xdb0c2e0d, 0x47b5481d};

typedef struct {
    const uint8_t *base;
    const uint32_t *index;
    const uint16_t *theirs;
    uint16_t *hashes;
    uint64_t *masks;
} block_job;

static inline uint16_t hash_block(const uint8_t *block)
{
    __m128i sum = _mm_setzero_si128();
    for (unsigned i = 0; i < VECTORS; i++) {
        __m128i keys = _mm_loadu_si128((const __m128i *)KEYS + i);
        __m128i keyed = _mm_add_epi32(_mm_loadu_si128((const __m128i *)block + i), keys);
        sum = _mm_add_epi64(sum, _mm_mul_epu32(keyed, _mm_srli_epi64(keyed, 32)));
    }
    uint64_t halves[2];
    _mm_storeu_si128((__m128i *)halves, sum);
    return (uint16_t)((halves[0] + halves[1]) * FOLD >> 48);
}

static void hash_some(void *context, size_t from, size_t to)
{
    const block_job *job = context;
    for (size_t i = from; i < to; i++) {
        const uint8_t *page = page_at(job->base, job->index[i]);
        for (size_t k = 0; k < PLOVER_BLOCKS; k++)
            job->hashes[i * PLOVER_BLOCKS + k] = hash_block(page + k * PLOVER_BLOCK);
    }
}

static void compare_some(void *context, size_t from, size_t to)
{
    const block_job *job = context;
    for (size_t i = from; i < to; i++) {
        const uint8_t *page = page_at(job->base, job->index[i]);
        uint64_t mask = 0;
        for (size_t k = 0; k < PLOVER_BLOCKS; k++)
            mask |= (uint64_t)(hash_block(page + k * PLOVER_BLOCK) != job->theirs[i * PLOVER_BLOCKS + k]) << k;
        job->masks[i] = mask;
    }
}

int plover_block_hashes(plover_pool *pool, const void *base, size_t pages, const uint32_t *index, size_t n, uint16_t *out)
{
    block_job job = {.base = base, .index = index, .hashes = out};
    if (n && (!base || !index || !out)) return -EINVAL;
    if (in_range(index, n, pages)) return -ERANGE;
    plover_pool_run(pool, hash_some, &job, n);
    return 0;
}

int plover_block_masks(plover_pool *pool, const void *base, size_t pages, const uint32_t *index, size_t n,
                       const uint16_t *theirs, uint64_t *masks)
{
    block_job job = {.base = base, .index = index, .theirs = theirs, .masks = masks};
    if (n && (!base || !index || !theirs || !masks)) return -EINVAL;
    if (in_range(index, n, pages)) return -ERANGE;
    plover_pool_run(pool, compare_some, &job, n);
    return 0;
}

int64_t plover_count_blocks(const uint64_t *masks, size_t n)
{
    int64_t blocks = 0;
    if (n && !masks) return -EINVAL;
    for (size_t i = 0; i < n; i++) blocks += __builtin_popcountll(masks[i]);
    return blocks;
}

int plover_gather_blocks(const void *base, size_t pages, const uint32_t *index, size_t n, const uint64_t *masks, void *out,
                         size_t blocks)
{
    uint8_t *to = out;
    if ((n && (!base || !index || !masks)) || (blocks && !out)) return -EINVAL;
    if (plover_count_blocks(masks, n) != (int64_t)blocks || in_range(index, n, pages)) return -ERANGE;
    for (size_t i = 0; i < n; i++)
        for (uint64_t bits = masks[i]; bits; bits &= bits - 1, to += PLOVER_BLOCK)
            memcpy(to, page_at(base, index[i]) + (size_t)__builtin_ctzll(bits) * PLOVER_BLOCK, PLOVER_BLOCK);
    return 0;
}

int plover_patch_pages(const void *base, size_t pages, const uint32_t *index, size_t n, const uint64_t *masks,
                       const void *data, size_t blocks, void *out)
{
    const uint8_t *from = data;
    uint8_t *to = out;
    if ((n && (!base || !index || !masks || !out)) || (blocks && !data)) return -EINVAL;
    if (plover_count_blocks(masks, n) != (int64_t)blocks || in_range(index, n, pages)) return -ERANGE;
    for (size_t i = 0; i < n; i++, to += PLOVER_PAGE) {
        memcpy(to, page_at(base, index[i]), PLOVER_PAGE);
        for (uint64_t bits = masks[i]; bits; bits &= bits - 1, from += PLOVER_BLOCK)
            memcpy(to + (size_t)__builtin_ctzll(bits) * PLOVER_BLOCK, from, PLOVER_BLOCK);
    }
    return 0;
}
