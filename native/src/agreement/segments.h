/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frames that two VMs with the same input must both have sent, as protocol/segments.py has them. It is the reference. */
#ifndef PLOVER_SEGMENTS_H
#define PLOVER_SEGMENTS_H

#include <stddef.h>
#include <stdint.h>

enum { FLOW_BYTES_MAX = 37, FRAME_LENGTH_BYTES = 4, FRAME_LENGTH_MASK = 0xFFFFFF };
enum said_kind { SAID_UNKNOWN, SAID_BREAK, SAID_SEGMENT, SAID_PACKET }; /* SAID_BREAK: the begin or reset of a connection */

typedef struct {
    enum said_kind kind;
    uint8_t flow[FLOW_BYTES_MAX]; /* but for SAID_UNKNOWN */
    uint8_t flow_bytes;
    uint8_t fin;
    uint32_t start, end, acks;
    const uint8_t *payload; /* of a segment, within the frame */
    size_t payload_bytes;
    uint64_t digest; /* of a packet */
} said;

/* `frame`: from the Ethernet header on. */
said said_of(const uint8_t *frame, size_t bytes);

/* The next frame of a run of frames, each behind a byte with its card's number and its length (24 bits, big-endian). *at moves behind it. NULL: none is left, or
 * the run ends within a frame; then *at is not `bytes`. */
const uint8_t *next_frame(const uint8_t *run, size_t bytes, size_t *at, size_t *frame_bytes);

/* How far sequence number a is after b; negative: before it. */
static inline int32_t after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b);
}

#endif
