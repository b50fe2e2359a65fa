/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sets of pages: bitmaps, compare, gather, apply. */
#include "pages/page.h"

#include <limits.h>
#include <malloc.h>
#include <string.h>

int plover_keep_freed_memory(size_t keep_bytes, size_t block_bytes_max)
{
    if (keep_bytes > INT_MAX || block_bytes_max > INT_MAX) return -EINVAL;
    return mallopt(M_TRIM_THRESHOLD, (int)keep_bytes) && mallopt(M_MMAP_THRESHOLD, (int)block_bytes_max) ? 0 : -EINVAL;
}

int64_t plover_bitmap_union(uint64_t *dst, const uint64_t *src, size_t words)
{
    int64_t set = 0;
    if (!dst || !src) return -EINVAL;
    for (size_t i = 0; i < words; i++) set += __builtin_popcountll(dst[i] |= src[i]);
    return set;
}

int64_t plover_bitmap_pages(const uint64_t *bitmap, size_t pages, uint32_t *out, size_t capacity)
{
    size_t n = 0;
    if (!bitmap || !out || pages > UINT32_MAX) return -EINVAL;
    for (size_t w = 0; w < (pages + 63) / 64; w++)
        for (uint64_t bits = bitmap[w]; bits; bits &= bits - 1) {
            size_t page = w * 64 + (size_t)__builtin_ctzll(bits);
            if (page >= pages) return -EINVAL; /* a bit after the last page */
            if (n == capacity) return -ERANGE;
            out[n++] = (uint32_t)page;
        }
    return (int64_t)n;
}

int plover_bitmap_of(const uint32_t *index, size_t n, uint64_t *bitmap, size_t bits)
{
    if ((n && !index) || (bits && !bitmap)) return -EINVAL;
    if (in_range(index, n, bits)) return -ERANGE;
    if (bits) memset(bitmap, 0, (bits + 63) / 64 * sizeof *bitmap);
    for (size_t i = 0; i < n; i++) bitmap[index[i] / 64] |= UINT64_C(1) << index[i] % 64;
    return 0;
}

int64_t plover_compare(const uint64_t *a, const uint64_t *b, const uint32_t *index, size_t n, uint32_t *out)
{
    size_t differ = 0;
    if ((n && (!a || !b || !out)) || n > UINT32_MAX) return -EINVAL;
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i]) out[differ++] = index ? index[i] : (uint32_t)i;
    return (int64_t)differ;
}

int64_t plover_nonzero(const void *base, size_t pages, const uint32_t *index, size_t n, uint32_t *out)
{
    static const uint8_t zeros[PLOVER_PAGE];
    size_t found = 0;
    if (n && (!base || !index || !out)) return -EINVAL;
    if (in_range(index, n, pages)) return -ERANGE;
    for (size_t i = 0; i < n; i++)
        if (memcmp(page_at(base, index[i]), zeros, PLOVER_PAGE)) out[found++] = index[i];
    return (int64_t)found;
}

int plover_gather(const void *base, size_t pages, const uint32_t *index, size_t n, void *out)
{
    if (n && (!base || !index || !out)) return -EINVAL;
    if (in_range(index, n, pages)) return -ERANGE;
    for (size_t i = 0; i < n; i++) memcpy((uint8_t *)out + i * PLOVER_PAGE, page_at(base, index[i]), PLOVER_PAGE);
    return 0;
}

int plover_apply(void *base, size_t pages, const uint32_t *index, size_t n, const void *data)
{
    if (n && (!base || !index || !data)) return -EINVAL;
    if (in_range(index, n, pages)) return -ERANGE;
    for (size_t i = 0; i < n; i++)
        memcpy((uint8_t *)base + (size_t)index[i] * PLOVER_PAGE, (const uint8_t *)data + i * PLOVER_PAGE, PLOVER_PAGE);
    return 0;
}
