/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Four pages at once, one in each 64-bit lane of a 256-bit vector. The file that includes this chooses the instruction
 * set. Four pages even where vectors have eight lanes: eight pages and the next eight would not fit into the first-level
 * cache, and from memory that costs more than the wider vector gains. */
#include "hash/hash.h"

#include <immintrin.h>
#include <string.h>

typedef uint64_t lanes __attribute__((vector_size(32)));
#include "hash/cityhash.h"

enum { LANES = 4 };

/* Two words of one page in the lower half, the same two of another in the upper. */
INLINE __m256i halves(const uint8_t *lower, const uint8_t *upper)
{
    __m256i v = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)lower));
    return _mm256_inserti128_si256(v, _mm_loadu_si128((const __m128i *)(const void *)upper), 1);
}

/* words[i]: word i of the block at `at` of each page. */
INLINE void load(lanes words[BLOCK_WORDS], const uint8_t *const pages[], unsigned at)
{
    for (unsigned i = 0; i < BLOCK_WORDS; i += 2) {
        __m256i even = halves(pages[0] + at + 8 * i, pages[2] + at + 8 * i);
        __m256i odd = halves(pages[1] + at + 8 * i, pages[3] + at + 8 * i);
        words[i] = (lanes)_mm256_unpacklo_epi64(even, odd);
        words[i + 1] = (lanes)_mm256_unpackhi_epi64(even, odd);
    }
}

/* Fetch page after page, which is fastest for memory and hardware prefetchers: each quarter of the loop fetches one page. */
INLINE void fetch(const uint8_t *const ahead[], unsigned at)
{
    const uint8_t *from = ahead[at * LANES / PLOVER_PAGE] + at * LANES % PLOVER_PAGE;
    for (unsigned k = 0; k < LANES; k++) __builtin_prefetch(from + BLOCK * k);
}

static void hash_lanes(const uint8_t *const pages[], const uint8_t *const ahead[], uint64_t out[])
{
    lanes words[BLOCK_WORDS], first;
    state st;
    load(words, pages, 0);
    first = words[0];
    load(words, pages, PLOVER_PAGE - BLOCK);
    start(&st, first, words, PLOVER_PAGE);
    for (unsigned at = 0; at < PLOVER_PAGE - BLOCK; at += BLOCK) {
        fetch(ahead, at);
        load(words, pages, at);
        block(&st, words);
    }
    fetch(ahead, PLOVER_PAGE - BLOCK);
    first = finish(&st);
    memcpy(out, &first, sizeof first);
}
