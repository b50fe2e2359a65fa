/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A page of guest memory, and whether a list of pages stays inside it. */
#ifndef PLOVER_PAGE_H
#define PLOVER_PAGE_H

#include "plover_native.h"

#include <errno.h>

static inline const uint8_t *page_at(const void *base, uint32_t page)
{
    return (const uint8_t *)base + (size_t)page * PLOVER_PAGE;
}

/* 0, or -ERANGE. */
static inline int in_range(const uint32_t *index, size_t n, size_t pages)
{
    for (size_t i = 0; i < n; i++)
        if (index[i] >= pages) return -ERANGE;
    return 0;
}

#endif
