/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef PLOVER_HASH_H
#define PLOVER_HASH_H

#include "plover_native.h"

enum { WAYS_MAX = 4 };

/* One way to hash pages: `ways` of them side by side, while the pages ahead[0..ways) are fetched into the cache.
 * ahead[0] is `lead` pages after pages[0] (lead 0: the kernel fetches none). Past the last page, both arrays repeat it. */
struct hash_kernel {
    const char *name;
    unsigned ways, lead;
    int (*usable)(void); /* on this CPU; NULL: on all */
    void (*hash)(const uint8_t *const pages[], const uint8_t *const ahead[], uint64_t out[]);
};

extern const struct hash_kernel plover_kernel_plain, plover_kernel_pairs, plover_kernel_avx2, plover_kernel_avx512;

#endif
