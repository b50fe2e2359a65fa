/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One flow of output since the last syncvm: what the leader's VM has said, and what the secondary's VM has. The classes Flow and
 * PacketFlow of core/agreement.py are the reference. Without memory a flow is blocked: its output waits for a syncvm. */
#ifndef PLOVER_FLOW_H
#define PLOVER_FLOW_H

#include "ordered_map.h"
#include "sayings.h"
#include "segments.h"

enum why { NEED_NOT_WAIT, CONNECTION, AGAIN, UNKNOWN, FOLLOWS };
enum difference { SAME, DIFFERENT_BYTES, DIFFERENT_END, DIFFERENT_PLACE };

/* A queue of items of one size. */
typedef struct {
    uint8_t *items;
    size_t item_bytes, first, count, room;
} queue;

static inline void *queue_at(const queue *q, size_t i)
{
    return q->items + (q->first + i) * q->item_bytes;
}

/* A new last item, or NULL: no memory. */
void *queue_add(queue *q);
/* n <= count items leave at the front. */
void queue_drop(queue *q, size_t n);
void queue_end(queue *q);

/* Numbers of frames that may leave. */
typedef struct {
    uint64_t *numbers;
    size_t count, room;
} leaving;

/* 0, or -ENOMEM. */
int leaving_reserve(leaving *out, size_t more);

typedef struct flow {
    node in_map; /* key: the flow's digest */
    struct flow *next_changed;
    uint8_t changed, blocked, has_acked, has_told, has_agreed;
    uint32_t acked, told, agreed;
    queue ahead;   /* of saying */
    queue waiting; /* of waiting_segment */
    queue said;    /* of bytes; a FIN counts as a zero byte */
} flow;

typedef struct {
    uint64_t number;
    uint32_t end, acks;
    uint8_t fin;
} waiting_segment;

void flow_init(flow *f, uint64_t key);
void flow_end(flow *f);
void flow_block(flow *f);
enum why flow_begins(flow *f);
enum why flow_hold(flow *f, uint64_t number, const said *segment);
void flow_hear(flow *f, const saying *told);
enum difference flow_compare(flow *f);
/* 0, or -ENOMEM: nothing has changed. */
int flow_leaving(flow *f, leaving *out);

typedef struct packet_flow {
    node in_map;
    struct packet_flow *next_changed;
    uint8_t changed, blocked;
    queue ahead;   /* of digests */
    queue waiting; /* of waiting_packet */
} packet_flow;

typedef struct {
    uint64_t number, digest;
} waiting_packet;

void packets_init(packet_flow *f, uint64_t key);
void packets_end(packet_flow *f);
void packets_block(packet_flow *f);
enum why packets_hold(packet_flow *f, uint64_t number, uint64_t digest);
void packets_hear(packet_flow *f, uint64_t digest);
/* 0, or -ENOMEM: nothing has changed. */
int packets_leaving(packet_flow *f, leaving *out, enum difference *differs);

#endif
