/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the secondary's VM has said, as it is told to the leader; protocol/sayings.py is the reference. */
#ifndef PLOVER_SAYINGS_H
#define PLOVER_SAYINGS_H

#include <stddef.h>
#include <stdint.h>

enum { SAYING_BYTES = 32, SPAN_BYTES_MAX = 1 << 20 };
enum saying_kind { SPAN = 1, ENDS = 3, OTHER = 4, BEGINS = 8 };

typedef struct {
    uint8_t kind;
    uint32_t start, end, acks;
    uint64_t flow, digest;
} saying;

/* Read one. 0, or -EBADMSG: it is none that plover_sayings makes. */
int saying_read(const uint8_t *from, saying *out);

#endif
